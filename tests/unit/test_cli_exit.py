"""Every exit status that docs/api.md tells of the commands that read, one by one."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from services import cli
from services.local.ports import free_port
from services.publish.signing import LocalSigner, attest
from tests.unit.documents import TWO_DIGESTS, shared_vulnerability
from tests.unit.factories import CONFIG, MANIFEST
from vexstream.intoto import Envelope, Signature, bundle_bytes, statement, to_sign
from vexstream.status import Status

_PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
_SIGNER = LocalSigner(ec.generate_private_key(ec.SECP256R1()))
_DOCUMENT = shared_vulnerability(Status.AFFECTED)
_OTHER = "sha256:" + "0" * 64
_NONE = {"added": [], "removed": [], "changed": [], "from_version": 1, "to_version": 2}
_ADDED = {"vulnerability": "CVE-2024-1", "package": "pkg:deb/debian/a@1", "status": "affected"}

_ANSWERS: dict[str, bytes] = {
    f"/vex/{CONFIG}": _DOCUMENT,
    f"/vex/{CONFIG}/attestation": bundle_bytes(attest(_DOCUMENT, TWO_DIGESTS, _SIGNER)),
    f"/vex/{CONFIG}/diff": json.dumps(_NONE | {"added": [_ADDED]}).encode(),
    f"/vex/{CONFIG}/diff?from=1&to=1": json.dumps(_NONE).encode(),
    f"/images/{CONFIG}": b'{"learning": {"complete": true}}',
    f"/stream?digest={CONFIG}": b"retry: 1000\n\n",
    # The document of another image, at the address of this one.
    f"/vex/{_OTHER}": _DOCUMENT,
    f"/vex/{_OTHER}/attestation": bundle_bytes(attest(_DOCUMENT, TWO_DIGESTS, _SIGNER)),
}
_KNOWN = {
    "document": "known", "author": "ACME", "version": "2", "issued_at": "2024-01-01T00:00:00.000Z",
    "given_at": None, "given_by": None, "holding": 1, "superseded": 0, "withdrawn": 0,
    "in_doubt": 0, "statuses": {"fixed": 1}, "withdrawal": None,
}  # fmt: skip
_LIST = {"items": [_KNOWN], "documents": 1, "statements_without_document": 0, "next": None}
_ANSWERS |= {
    "/vendor-vex?limit=200": json.dumps(_LIST).encode(),
    "/vendor-vex?document=known&limit=200": json.dumps(_LIST).encode(),
}
_TAKEN = b'{"decisions": 1, "skipped": ["a"], "superseded": [], "withdrawn": []}'
_GONE = b'{"document": "known version 2", "decisions": 1, "withdrawn": ["a"], "in_doubt": []}'


class _Api(BaseHTTPRequestHandler):
    """Answers what is known, 404 without; refuses below /refused, is somebody else at /portal."""

    def do_GET(self) -> None:
        path = unquote(self.path).replace("?format=openvex", "")
        self._answer(_ANSWERS.get(path.lower()))

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(
            _TAKEN, {b"{}": 422, b"old": 0 if "again=true" in self.path else 409}.get(sent)
        )

    def do_DELETE(self) -> None:
        known = "document=known" in self.path
        self._answer(_GONE if known else None, 409 if "version=1" in self.path else None)

    def _answer(self, body: bytes | None, refused: int | None = None) -> None:
        if self.path.startswith("/portal"):
            body, refused = b"<!doctype html><title>Sign in</title>", None
        status = 403 if self.path.startswith("/refused") else 404 if body is None else 200
        status = refused or status
        body = body or b'{"detail": "there is none"}'
        self.send_response(status)
        if self.path.startswith("/stream"):
            self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands for a word in a command."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "key.pem").write_bytes(_SIGNER.public_key_pem)
    (folder / "bundle.json").write_bytes(_ANSWERS[f"/vex/{CONFIG}/attestation"])
    no_document = Envelope(statement(b"{}", ()), ())
    signature = Signature("", _SIGNER.sign(to_sign(no_document.payload)))
    (folder / "other.json").write_bytes(bundle_bytes(replace(no_document, signatures=(signature,))))
    stranger = LocalSigner(ec.generate_private_key(ec.SECP256R1()))
    for name in ("new", "old", "{}"):
        (folder / name).write_text(name)
    (folder / "stranger.pem").write_bytes(stranger.public_key_pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield {
            "API": f"--url={url}", "REFUSED": f"--url={url}/refused",
            "PORTAL": f"--url={url}/portal",
            "AWAY": f"--url=http://127.0.0.1:{free_port()}", "IMAGE": CONFIG,
            "DOCUMENT": f"{url}/vex/{CONFIG}", "OTHER": f"{url}/vex/{_OTHER}",
            "NOTHING": f"{url}/vex/sha256:{'1' * 64}", "FORBIDDEN": f"{url}/refused/vex",
            "NOWHERE": f"http://127.0.0.1:{free_port()}/vex", "KEY": str(folder / "key.pem"),
            # Other spellings of the address of another image's document.
            "ESCAPED": f"{url}/vex/{_OTHER.replace(':', '%3A')}",
            "SHOUTED": f"{url}/VEX/{_OTHER.upper()}",
            "GIVEN": str(folder / "new"), "WITHDRAWN": str(folder / "old"),
            "JUNK": str(folder / "{}"),
            "BUNDLE": str(folder / "bundle.json"), "NOT-OURS": str(folder / "other.json"),
            "STRANGER": str(folder / "stranger.pem"), "NO-KEY": str(folder / "none.pem"),
        }  # fmt: skip
        server.shutdown()


_COMMANDS = {
    ("get", 0): ["IMAGE API", "IMAGE API --fail-on fixed", "IMAGE API --json"],
    ("get", 1): ["IMAGE API --fail-on affected"],
    ("get", 2): ["IMAGE API --fail-on fine", "API"],
    ("get", 3): ["sha256:1 API", "IMAGE API --format spdx"],
    ("get", 4): ["IMAGE AWAY", "IMAGE REFUSED", "IMAGE PORTAL"],
    ("watch", 0): ["IMAGE API --until-learnt"],
    ("watch", 2): ["IMAGE API --timeout soon"],
    ("watch", 3): ["sha256:1 API"],
    ("watch", 4): ["IMAGE AWAY", "IMAGE REFUSED", "IMAGE PORTAL"],
    ("watch", 5): ["IMAGE API --timeout 0.1"],
    ("diff", 0): ["IMAGE API", "IMAGE API --from 1 --to 1 --exit-code"],
    ("diff", 1): ["IMAGE API --exit-code"],
    ("diff", 2): ["IMAGE API --from 0"],
    ("diff", 3): ["IMAGE API --from 9", "sha256:1 API"],
    ("diff", 4): ["IMAGE AWAY", "IMAGE REFUSED", "IMAGE PORTAL"],
    ("verify", 0): [
        "DOCUMENT --key KEY",
        "DOCUMENT --key STRANGER --key KEY",
        "BUNDLE --key KEY",
        "BUNDLE --key KEY --image IMAGE",
        f"BUNDLE --key KEY --image {MANIFEST} --image IMAGE",
    ],
    ("verify", 1): [
        "DOCUMENT --key STRANGER",
        "OTHER --key KEY",
        "ESCAPED --key KEY",
        "SHOUTED --key KEY",
        f"BUNDLE --key KEY --image {_OTHER}",
        f"BUNDLE --key KEY --image IMAGE --image {_OTHER}",
        "NOT-OURS --key KEY --image IMAGE",
    ],
    ("verify", 2): [
        "DOCUMENT",
        "DOCUMENT --key NO-KEY",
        "/no/file --key KEY",
        "BUNDLE --key KEY --image shop",
    ],
    ("verify", 3): ["NOTHING --key KEY"],
    ("vendor-vex", 0): [
        "list API",
        "list known API --json",
        "give GIVEN API",
        "give WITHDRAWN API --again --json",
        "withdraw known API",
        "withdraw known API --publisher ACME --version 2 --json",
    ],
    ("vendor-vex", 1): ["give WITHDRAWN API", "withdraw known API --version 1"],
    ("vendor-vex", 2): ["give JUNK API", "give /no/file API", "withdraw API"],
    ("vendor-vex", 3): ["list unknown API", "withdraw unknown API"],
    ("vendor-vex", 4): [
        "list AWAY",
        "list REFUSED",
        "list PORTAL",
        "give GIVEN AWAY",
        "give GIVEN REFUSED",
        "withdraw known REFUSED",
        "withdraw known PORTAL",
    ],
    ("verify", 4): ["NOWHERE --key KEY", "FORBIDDEN --key KEY"],
}


@pytest.mark.parametrize(
    ("command", "status", "line"),
    [(command, status, line) for (command, status), lines in _COMMANDS.items() for line in lines],
)
def test_the_command_ends_as_the_page_tells(
    command: str, status: int, line: str, words: dict[str, str]
) -> None:
    arguments = [words.get(word, word) for word in line.split()]
    assert CliRunner().invoke(cli.app, [command, *arguments]).exit_code == status


def test_the_page_tells_of_these_and_no_other() -> None:
    header, rows = re.findall(r"\| exit status \|(.*)\|\n\|.*\n((?:\| \d .*\n)+)", _PAGE)[0]
    commands = re.findall(r"`([\w-]+)`", header)
    told = {
        (command, int(cells[0]))
        for row in rows.splitlines()
        for cells in [[cell.strip() for cell in row.strip("|").split("|")]]
        for command, cell in zip(commands, cells[1:], strict=True)
        if cell != "-"
    }
    assert told == _COMMANDS.keys()
