"""Signed documents of the real service, and `vexstream verify` against it."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner, Result

from services import cli
from services.api.app import create_app
from services.common.settings import CommonSettings
from services.publish.errors import SigningKeyError
from services.publish.signing import key_id, verify
from tests.support.api import ApiUnderTest, api_under_test, document
from tests.unit.documents import TWO_DIGESTS, shared_vulnerability
from tests.unit.factories import CONFIG, INDEX, MANIFEST
from vexstream import cyclonedx
from vexstream.assessment import Status
from vexstream.document import DocumentRecord

pytestmark = pytest.mark.real

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()


def record(status: Status, version: int) -> DocumentRecord:
    """A document about an image with a manifest and an index digest."""
    body = shared_vulnerability(status)
    return document(
        image=TWO_DIGESTS, body=body, sha256=hashlib.sha256(body).hexdigest(), version=version
    )


async def test_the_attestation_is_of_the_document_and_verifies_by_command(
    kafka_settings: CommonSettings,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEY", PEM)
    first, second = record(Status.NOT_AFFECTED, 1), record(Status.AFFECTED, 2)
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(first)
        async with api.running() as client:
            await api.settled()
            for digest in (CONFIG, MANIFEST, INDEX):
                answer = await client.get(f"/vex/{digest}/attestation")
                assert answer.status_code == 200
                assert answer.headers["content-type"].endswith("bundle.v0.3+json")
                attested, _ = verify(answer.content, {key_id(KEY.public_key()): KEY.public_key()})
                assert attested.document == first.body
            known = {"If-None-Match": answer.headers["etag"]}
            again = await client.get(f"/vex/{CONFIG}/attestation", headers=known)
            assert (again.status_code, again.content) == (304, b"")
            envelope = await client.get(f"/vex/{CONFIG}/attestation?form=dsse")
            assert envelope.json()["payloadType"] == "application/vnd.in-toto+json"
            assert (await client.get(f"/vex/{CONFIG}/attestation?form=x")).status_code == 422
            missing = await client.get(f"/vex/sha256:{'0' * 64}/attestation")
            assert missing.json()["type"].endswith("/unknown-digest")
            key = tmp_path / "key.pem"
            key.write_bytes((await client.get("/signing-key.pem")).content)

            await api.publish(second)
            await api.settled()
            changed = await client.get(f"/vex/{CONFIG}/attestation", headers=known)
            assert changed.status_code == 200
        await _check_command(api, key, tmp_path)


async def _check_command(api: ApiUnderTest, key: Path, folder: Path) -> None:
    app = create_app(api.settings)
    async with app.router.lifespan_context(app), api.listening(app) as url:
        address = f"{url}/vex/{MANIFEST}"
        verified = await _run("verify", address, "--key", str(key))
        assert verified.exit_code == 0, verified.output
        assert json.loads(verified.stdout)["document"].endswith(CONFIG)
        shown = await _run("get", MANIFEST, "--url", url, "--format", "openvex")
        file = folder / "document.json"
        file.write_bytes(shown.stdout_bytes)
        attestation = f"{address}/attestation"
        command = ["verify", str(file), "--attestation", attestation, "--key", str(key)]
        assert (await _run(*command)).exit_code == 0
        file.write_bytes(shown.stdout_bytes.replace(b"affected", b"Affected", 1))
        refuted = await _run(*command)
        assert (refuted.exit_code, "not the one that was signed" in refuted.stderr) == (1, True)
        sbom = folder / "sbom.json"
        sbom.write_bytes(cyclonedx.render(shown.stdout_bytes, TWO_DIGESTS))
        linked = await _run("link", str(sbom), MANIFEST, "--url", url)
        assert linked.stdout_bytes == cyclonedx.render_linked(shown.stdout_bytes, TWO_DIGESTS)
        assert (await _run("link", str(file), MANIFEST, "--url", url)).exit_code == 2
        absent = await _run("verify", f"{url}/vex/sha256:{'0' * 64}", "--key", str(key))
        assert absent.exit_code == 3


async def test_without_a_key_nothing_is_signed_and_a_wrong_one_ends_the_start(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        async with api.running() as client:
            answer = await client.get(f"/vex/{CONFIG}/attestation")
            assert answer.status_code == 404
            assert answer.json()["type"].endswith("/problems/not-signed")
            assert "VEXSTREAM_SIGNING_KEY_FILE" in answer.json()["detail"]
            assert (await client.get("/signing-key.pem")).status_code == 404
            assert (await client.get("/problems/not-signed")).status_code == 200
        monkeypatch.setenv("VEXSTREAM_SIGNING_KEY", "no key")
        with pytest.raises(SigningKeyError, match="VEXSTREAM_SIGNING_KEY"):
            async with api.running():
                pass


async def _run(*arguments: str) -> Result:
    """The command in a thread: the server runs in this one."""
    return await asyncio.to_thread(CliRunner().invoke, cli.app, list(arguments))
