"""``vexstream ci`` on real containers: the command as a user calls it, and its files."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from services.local.image_archive import ImageArchive
from services.local.ports import free_port
from services.publish.attach import fallback_tag
from services.publish.credentials import DockerConfig
from services.publish.registry import RegistryClient
from services.publish.signing import read_public_keys, verify
from tests.support.registry import LocalRegistry
from tests.support.validity import check_once
from vexstream.identity import Digest

pytestmark = pytest.mark.real

_SECONDS = 150


@dataclass(frozen=True, slots=True)
class Run:
    """One call of the command and what it left."""

    status: int
    stdout: str
    stderr: str
    folder: Path

    def json(self, name: str) -> dict[str, Any]:
        """One of its files."""
        found: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        return found

    def statuses(self) -> dict[str, set[str]]:
        """Package -> statuses of its statements."""
        found: dict[str, set[str]] = {}
        for statement in self.json("openvex.json")["statements"]:
            purl = statement["products"][0]["subcomponents"][0]["@id"]
            name = unquote(purl.rpartition("/")[2]).partition("@")[0]
            found.setdefault(name, set()).add(statement["status"])
        return found


@pytest.fixture(scope="module")
def on_host(
    demo_database: Mapping[str, str],
    demo_image: ImageArchive,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Tests on the host against the application; they use its Requests, never its Pillow."""
    port = str(free_port())
    script = (
        "import os, urllib.request as r; "
        "e = os.environ; "
        "base = 'http://' + e['VEXSTREAM_CI_HOST'] + ':' + e['VEXSTREAM_CI_PORT']; "
        "print([r.urlopen(base + p, timeout=20).status for p in ('/', '/fetch')]); "
        "print('VEXSTREAM_SIGNING_KEY_FILE' in e)"
    )
    folder = tmp_path_factory.mktemp("host")
    _make_key(folder)
    published = "registry.example/acme/shop@sha256:" + "d" * 64
    arguments = ["--sign", "--rule-out", "--tests-in", "host", "--env", f"PORT={port}",
                 "--port", port, "--job", "Unit #1", "--product", published]  # fmt: skip
    return _ci(
        {**demo_database, "VEXSTREAM_SIGNING_KEY_FILE": str(folder / "key.pem")}, demo_image.path,
        folder, arguments, [sys.executable, "-c", script],
    )  # fmt: skip


def test_tests_that_pass_end_with_success(on_host: Run) -> None:
    assert on_host.status == 0, on_host.stderr
    assert on_host.json("result.json")["outcome"] == "passed"
    # The tests are not told where the key is.
    assert (on_host.folder / "tests.log").read_text().split("\n")[:2] == ["[200, 200]", "False"]


def test_what_the_tests_used_is_affected_and_the_rest_is_not(on_host: Run) -> None:
    statuses = on_host.statuses()
    assert statuses["requests"] == {"affected"}  # by the tests alone: nothing imports it before
    assert statuses["flask"] == {"affected"}
    assert statuses["pillow"] == {"not_affected"}
    assert statuses["cryptography"] == {"not_affected"}


def test_the_document_is_of_this_job_and_says_what_it_rests_on(on_host: Run) -> None:
    document = on_host.json("openvex.json")
    check_once((on_host.folder / "openvex.json").read_bytes())
    assert re.search(r"/ci/unit-1/[0-9a-f]{16}/sha256:", document["@id"])
    products = {p["@id"] for s in document["statements"] for p in s["products"]}
    assert "pkg:oci/shop@sha256%3A" + "d" * 64 in products
    ruled_out = [s for s in document["statements"] if s["status"] == "not_affected"]
    assert ruled_out
    assert {s["status"] for s in document["statements"]} > {"affected"}
    assert all("evidence of these tests only" in s["impact_statement"] for s in ruled_out)


def test_the_document_is_signed_for_the_image_as_it_is_published(on_host: Run) -> None:
    keys = read_public_keys([on_host.folder.parent / "key.pub"])
    attested, _ = verify((on_host.folder / "openvex.sigstore.json").read_bytes(), keys)
    assert attested.document == (on_host.folder / "openvex.json").read_bytes()
    assert Digest("sha256:" + "d" * 64) in {subject.digest for subject in attested.subjects}


def test_without_a_key_nothing_is_signed_or_run(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    (folder / "openvex.json").write_text("of an earlier run")
    run = _ci({}, Path("x"), tmp_path, ["--sign"], ["true"])
    assert run.status == 4
    assert not (run.folder / "openvex.json").exists()
    assert "VEXSTREAM_SIGNING_KEY_FILE" in run.stderr


def test_the_files_that_the_tests_added_are_told(on_host: Run) -> None:
    facts = on_host.json("result.json")
    assert 0 < facts["files_used_by_tests"] < facts["files_used"]
    assert facts["events_lost"] == 0
    assert facts["warnings"] == []


def test_a_program_as_the_containers_command_violates_the_policy(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path
) -> None:
    """The command lives for a moment and is the container's first process."""
    run = _ci(
        demo_database, probe_image.path, tmp_path,
        ["--rule-out", "--fail-on", "affected:negligible"],
        ["/bin/sh", "-c", "echo tested && /usr/bin/tar --version"],
    )  # fmt: skip
    assert run.status == 1, run.stderr
    assert run.statuses()["tar"] == {"affected"}
    assert run.statuses()["curl"] == {"not_affected"}
    assert (run.folder / "tests.log").read_text().startswith("tested\n")
    report = ElementTree.parse(run.folder / "junit.xml").getroot()
    assert int(report.get("failures", "0")) == run.json("result.json")["violations"] > 0
    assert "violate" in run.stdout
    assert "used little of the image" in run.stderr


def test_tests_within_the_container_that_fail_rule_nothing_out(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path
) -> None:
    """And where the document was to go there is no registry: that is said too."""
    _make_key(tmp_path)
    run = _ci(
        {**demo_database, "VEXSTREAM_SIGNING_KEY_FILE": str(tmp_path / "key.pem")},
        probe_image.path, tmp_path,
        ["--tests-in", "exec", "--fail-on", "affected", "--attach", "127.0.0.1:9/ci/probe:1"],
        ["/bin/sh", "-c", "exit 7"],
    )  # fmt: skip
    assert run.status == 3, run.stderr
    facts = run.json("result.json")
    assert (facts["outcome"], facts["tests_exit_code"]) == ("tests_failed", 7)
    assert "cannot attach to 127.0.0.1:9/ci/probe:1" in facts["not_published"]
    assert "not_affected" not in set().union(*run.statuses().values())


def test_the_document_is_attached_to_the_image_in_its_registry(
    demo_database: Mapping[str, str],
    probe_image: ImageArchive,
    registry: LocalRegistry,
    tmp_path: Path,
) -> None:
    """Nobody vouches for these tests: nothing is ruled out."""
    registry.push(probe_image, "ci/probe:1")
    name = f"{registry.host}/ci/probe"
    _make_key(tmp_path)
    run = _ci(
        {**demo_database, "VEXSTREAM_SIGNING_KEY_FILE": str(tmp_path / "key.pem")},
        probe_image.path, tmp_path,
        ["--attach", f"{name}:1", "--product", f"{name}@{probe_image.manifest_digest}"],
        ["/bin/sh", "-c", "/usr/bin/tar --version"],
    )  # fmt: skip
    assert run.status == 0, run.stderr
    assert set().union(*run.statuses().values()) == {"affected", "under_investigation"}
    reasons = {s["status_notes"].split()[0] for s in run.json("openvex.json")["statements"]}
    assert reasons >= {"[used]", "[tests_only]"}
    with RegistryClient(registry.repository("ci/probe"), DockerConfig({})) as client:
        [listed] = client.manifest(fallback_tag(probe_image.manifest_digest)).read()["manifests"]
        [layer] = client.manifest(listed["digest"]).read()["layers"]
        bundle = client.blob(layer["digest"])
    assert bundle == (run.folder / "openvex.sigstore.json").read_bytes()
    attested, _ = verify(bundle, read_public_keys([tmp_path / "key.pub"]))
    assert attested.document == (run.folder / "openvex.json").read_bytes()


def test_an_image_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    run = _ci({}, Path("registry.example/no/such:1"), tmp_path, [], ["true"])
    assert run.status == 4
    assert "no image registry.example/no/such:1" in run.stderr
    assert not (run.folder / "openvex.json").exists()


def test_a_port_that_is_taken_is_no_verdict(
    demo_database: Mapping[str, str], probe_image: ImageArchive, tmp_path: Path
) -> None:
    """Whatever listens there would be tested in place of the container."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--tests-in", "host", "--port", str(taken.getsockname()[1])]
        run = _ci(demo_database, probe_image.path, tmp_path, arguments, ["true"])
    assert run.status == 4
    assert "listens on port" in run.stderr


def test_a_wrong_policy_is_wrong_usage(tmp_path: Path) -> None:
    run = _ci({}, Path("x"), tmp_path, ["--fail-on", "critical"], ["true"])
    assert run.status == 2
    assert "affected" in run.stderr


def _make_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (folder / "key.pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def _ci(
    variables: Mapping[str, str], image: Path, folder: Path, arguments: list[str], tests: list[str]
) -> Run:
    command = [sys.executable, "-m", "services.cli", "ci", "--image", str(image),
               "--output", str(folder / "out"), *arguments, "--", *tests]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, done.stderr, folder / "out")
