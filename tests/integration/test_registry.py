"""Documents attached to images in real registries, by library and by command.

docker-registry has no referrers API, so a tag takes its place; the API is that of a small registry
of Google's library (tests/support/ociregistry).
"""

import base64
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from services import cli
from services.publish.attach import EMPTY_TYPE, attach, fallback_tag
from services.publish.credentials import DockerConfig
from services.publish.errors import NotInRegistryError, OutrankedError, RegistryError
from services.publish.reference import Repository
from services.publish.registry import INDEX_TYPE, MANIFEST_TYPE, Manifest, RegistryClient
from services.publish.signing import LocalSigner, attest, key_id, verify
from tests.support.registry import LocalRegistry, OciRegistry, missing
from tests.unit.documents import assessment_of, document
from tests.unit.factories import package, scan
from vexstream.assessment import Status
from vexstream.identity import Digest, Image
from vexstream.intoto import (
    BUNDLE_MEDIA_TYPE,
    PREDICATE_TYPE,
    bundle_bytes,
    parse_envelope,
    read_statement,
)
from vexstream.purl import product
from vexstream.scan import Finding

pytestmark = pytest.mark.real

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = LocalSigner(KEY)
TRUSTED = {key_id(KEY.public_key()): KEY.public_key()}
NOBODY = DockerConfig({})
PASSWORD = "secret-word"
# "secret-word" in bcrypt, the only form that docker-registry takes.
HTPASSWD = "robot:$2b$04$sZV2MFvpI6nTN4MhQZGQveLXLCM4f4VPVuKvQX/IdnidDHd77XcAK\n"


@pytest.fixture(params=["tag", "api"])
def host(request: pytest.FixtureRequest) -> str:
    """A registry without the referrers API, and one with it."""
    name = "registry" if request.param == "tag" else "oci_registry"
    started: LocalRegistry | OciRegistry = request.getfixturevalue(name)
    return started.host


@pytest.fixture
def client(host: str, request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """A repository of the test's own."""
    path = f"test/{abs(hash(request.node.nodeid))}"
    with RegistryClient(Repository(host, path), NOBODY) as opened:
        yield opened


def push_image(client: RegistryClient, content: str = "content") -> Image:
    """A small image behind an index, as the registry then knows it."""
    config = client.put_blob(json.dumps({"architecture": "amd64", "os": content}).encode())
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config | {"mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [],
    }
    manifest = Manifest(MANIFEST_TYPE, json.dumps(body).encode())
    client.put_manifest(manifest)
    entry = manifest.descriptor | {"platform": {"os": "linux", "architecture": "amd64"}}
    listed = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    index = Manifest(INDEX_TYPE, json.dumps(listed).encode())
    client.put_manifest(index, "1")
    digests = tuple(sorted((manifest.digest, index.digest)))
    return Image(Digest(config["digest"]), digests, (f"{client.repository}:1",))


def signed(image: Image, version: int = 1, status: Status = Status.NOT_AFFECTED) -> bytes:
    """The bundle of a document about the image."""
    found = scan([package("a", b"/a")], [Finding("CVE-2024-1000", "a")])
    body = document(assessment_of(found, [status]), image, version)
    return bundle_bytes(attest(body, image, SIGNER))


def referrers(client: RegistryClient, digest: str) -> list[dict[str, Any]]:
    """As any client of OCI 1.1 finds them: the API, else the tag."""
    listed = client.referrers(digest)
    if listed is None:
        listed = client.manifest(fallback_tag(digest)).read()["manifests"]
    return listed


def lists_itself(client: RegistryClient, digest: str) -> bool:
    """Whether the registry lists referrers itself, in its own words."""
    return client.referrers(digest) is not None


def of_tests(image: Image) -> bytes:
    """The bundle of what a test run says of the image."""
    body = json.loads(read_statement(parse_envelope(signed(image)).payload).document)
    body["@id"] = body["@id"].replace("/sha256:", f"/ci/unit/{'0' * 16}/sha256:")
    return bundle_bytes(attest(json.dumps(body).encode(), image, SIGNER))


def test_what_production_says_replaces_tests_and_never_the_other_way(
    client: RegistryClient,
) -> None:
    """A scanner reads one attachment."""
    image = push_image(client)
    attach(client, image.manifest_digests, of_tests(image))
    done = attach(client, image.manifest_digests, signed(image))
    assert all(one.superseded for one in done)
    with pytest.raises(OutrankedError, match="rests on more than tests"):
        attach(client, image.manifest_digests, of_tests(image))
    for digest in image.manifest_digests:
        assert len(referrers(client, digest)) == 1


def test_a_document_is_found_from_every_digest_and_verifies(client: RegistryClient) -> None:
    image = push_image(client)
    bundle = signed(image)
    done = attach(client, image.manifest_digests, bundle)
    assert [one.subject for one in done] == list(image.manifest_digests)
    for digest in image.manifest_digests:
        (found,) = referrers(client, digest)
        if not lists_itself(client, digest):
            assert found["artifactType"] == BUNDLE_MEDIA_TYPE
            assert found["annotations"]["in-toto.io/predicate-type"] == PREDICATE_TYPE
        manifest = client.manifest(found["digest"]).read()
        assert manifest["subject"]["digest"] == digest
        assert manifest["artifactType"] == BUNDLE_MEDIA_TYPE
        assert manifest["config"]["mediaType"] == EMPTY_TYPE
        assert manifest["annotations"]["dev.sigstore.bundle.predicateType"] == PREDICATE_TYPE
        assert manifest["annotations"]["in-toto.io/predicate-type"] == PREDICATE_TYPE
        (layer,) = manifest["layers"]
        assert layer["mediaType"] == BUNDLE_MEDIA_TYPE
        attested, _ = verify(client.blob(layer["digest"]), TRUSTED)
        assert digest in {subject.digest for subject in attested.subjects}


def test_doing_it_again_changes_nothing(client: RegistryClient) -> None:
    image = push_image(client)
    first = attach(client, image.manifest_digests, signed(image))
    again = attach(client, image.manifest_digests, signed(image))
    assert first == again
    assert not any(one.superseded for one in again)


def test_a_newer_document_replaces_ours_and_leaves_those_of_others(client: RegistryClient) -> None:
    image = push_image(client)
    subject = client.manifest(image.manifest_digests[0])
    other = _foreign_referrer(client, subject)
    old = attach(client, image.manifest_digests, signed(image))
    new = attach(client, image.manifest_digests, signed(image, 2, Status.AFFECTED))
    for before, after in zip(old, new, strict=True):
        assert after.superseded == (before.referrer,)
        ours = [
            one["digest"]
            for one in referrers(client, after.subject)
            if one["digest"] != other.digest
        ]
        assert ours == [after.referrer]
        with pytest.raises(NotInRegistryError):
            client.manifest(before.referrer)
    assert other.digest in {one["digest"] for one in referrers(client, subject.digest)}


def test_an_older_document_does_not_take_the_place_of_a_newer(client: RegistryClient) -> None:
    """As by a job that fetched the attestation and was then held up."""
    image = push_image(client)
    older = _dated(image, 1, "2026-01-01T00:00:00.000Z")
    newer = _dated(image, 2, "2026-01-02T00:00:00.000Z")
    attach(client, image.manifest_digests, older)
    done = attach(client, image.manifest_digests, newer)
    with pytest.raises(OutrankedError, match="version 2 of"):
        attach(client, image.manifest_digests, older)
    for one in done:
        assert [found["digest"] for found in referrers(client, one.subject)] == [one.referrer]
    begun_again = _dated(image, 1, "2026-01-03T00:00:00.000Z")
    assert all(one.superseded for one in attach(client, image.manifest_digests, begun_again))


def _dated(image: Image, version: int, timestamp: str) -> bytes:
    body = json.loads(read_statement(parse_envelope(signed(image, version)).payload).document)
    body |= {"timestamp": timestamp, "last_updated": timestamp}
    return bundle_bytes(attest(json.dumps(body).encode(), image, SIGNER))


def test_an_image_that_is_not_there_is_said(client: RegistryClient) -> None:
    image = push_image(client)
    with pytest.raises(
        NotInRegistryError, match="no manifest that the document may be attached to"
    ):
        attach(client, ["sha256:" + "0" * 64], signed(image))
    done = attach(client, ["sha256:" + "0" * 64, *image.manifest_digests], signed(image))
    assert len(done) == 2


def test_an_index_of_several_platforms_gets_a_document_that_hits_no_other(
    client: RegistryClient,
) -> None:
    one, other = push_image(client), push_image(client, "other")
    entries = [
        client.manifest(digest).descriptor
        | {"platform": {"os": "linux", "architecture": architecture}}
        for digest, architecture in (
            (_platform(client, one), "amd64"),
            (_platform(client, other), "arm64"),
            (_platform(client, other), "unknown"),
        )
    ]
    own = _push_index(client, [entries[0], entries[2]])
    shared = _push_index(client, entries)
    nested = _push_index(client, [client.manifest(shared).descriptor])
    digests = (_platform(client, one), own, shared, nested)
    image = Image(one.config_digest, tuple(sorted(digests)), one.names)
    # Only by its own digest, as a document of an index that was not read says it.
    done = attach(client, digests, signed(image))
    assert {attached.subject for attached in done} == {own, _platform(client, one)}
    # By the architecture that only it has there: the index too, and what is newer replaces it.
    done = attach(client, digests, _of_a_platform(image, shared, "amd64"))
    assert {attached.subject for attached in done} == {own, shared, _platform(client, one)}
    done = attach(client, digests, _of_a_platform(image, shared, "amd64", version=2))
    assert all(attached.superseded for attached in done)
    # That of the other platform stands beside it.
    theirs = Image(other.config_digest, (_platform(client, other), shared), other.names)
    done = attach(client, theirs.manifest_digests, _of_a_platform(theirs, shared, "arm64"))
    assert shared in {attached.subject for attached in done}
    assert len(referrers(client, shared)) == 2
    # Somebody's document that rules a package of every platform out for the index is not believed.
    for architecture in ("arm64", "all", ""):
        wide = _of_a_platform(image, shared, architecture, version=3)
        done = attach(client, digests, wide)
        assert shared not in {attached.subject for attached in done}


def test_the_command_attaches_to_every_platform_of_an_index(
    client: RegistryClient, tmp_path: Path
) -> None:
    images = {"amd64": push_image(client), "arm64": push_image(client, "other"), "s390x": None}
    entries = [
        client.manifest(_platform(client, image or push_image(client, "third"))).descriptor
        | {"platform": {"os": "linux", "architecture": architecture}}
        for architecture, image in images.items()
    ]
    shared = _push_index(client, entries)
    for architecture, image in images.items():
        if image is not None:
            platform = _platform(client, image)
            known = Image(image.config_digest, (platform, shared), image.names)
            file = tmp_path / f"vex/{platform}/attestation"
            file.parent.mkdir(parents=True)
            file.write_bytes(_of_a_platform(known, shared, architecture))
    with _served(tmp_path) as url:
        reference = f"{client.repository}@{shared}"
        done = CliRunner().invoke(cli.app, ["attach", reference, "--url", url])
        assert done.exit_code == 0, done.output
        assert done.stdout.count(f"{shared}: attached") == 2
        assert entries[2]["digest"] in done.stderr, "that one has no document"
        assert len(referrers(client, shared)) == 2
        none = CliRunner().invoke(cli.app, ["attach", reference, "--url", f"{url}/none"])
        assert none.exit_code == 3


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Files by HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _of_a_platform(image: Image, shared: Digest, architecture: str, version: int = 1) -> bytes:
    """The bundle of a document that rules a package of the architecture out for an index."""
    body = json.loads(read_statement(parse_envelope(signed(image, version)).payload).document)
    (statement,) = body["statements"]
    purl = f"pkg:deb/debian/a@1{f'?arch={architecture}' if architecture else ''}"
    statement["products"].append({"@id": product("app", shared), "subcomponents": [{"@id": purl}]})
    return bundle_bytes(attest(json.dumps(body).encode(), image, SIGNER))


def _push_index(client: RegistryClient, entries: list[dict[str, Any]]) -> Digest:
    body = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
    index = Manifest(INDEX_TYPE, json.dumps(body).encode())
    client.put_manifest(index)
    return index.digest


def _platform(client: RegistryClient, image: Image) -> Digest:
    """The digest that is no index."""
    (found,) = [
        digest
        for digest in image.manifest_digests
        if client.manifest(digest).media_type == MANIFEST_TYPE
    ]
    return found


def _foreign_referrer(client: RegistryClient, subject: Manifest) -> Manifest:
    """An SBOM that somebody else has attached, as the specification says."""
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/vnd.example.sbom",
        "config": client.put_blob(b"{}") | {"mediaType": EMPTY_TYPE},
        "layers": [client.put_blob(b"sbom") | {"mediaType": "text/plain"}],
        "subject": subject.descriptor,
    }
    manifest = Manifest(MANIFEST_TYPE, json.dumps(body).encode())
    client.put_manifest(manifest)
    if client.referrers(subject.digest) is None:
        entry = manifest.descriptor | {"artifactType": body["artifactType"]}
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
        client.put_manifest(
            Manifest(INDEX_TYPE, json.dumps(index).encode()), fallback_tag(subject.digest)
        )
    return manifest


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A registry that wants a login."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("locked")
    (folder / "htpasswd").write_text(HTPASSWD)
    with LocalRegistry(folder / "registry", folder / "htpasswd") as started:
        yield started


def _login(host: str, password: str) -> dict[str, Any]:
    auth = base64.b64encode(f"robot:{password}".encode()).decode()
    return {"auths": {host: {"auth": auth}}}


def test_the_login_is_that_of_the_docker_configuration(
    locked: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    repository = locked.repository("acme/app")
    for config in ({}, _login(locked.host, "wrong")):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with (
            RegistryClient(repository, DockerConfig.load()) as client,
            pytest.raises(RegistryError, match="docker login") as caught,
        ):
            push_image(client)
        assert "wrong" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps(_login(locked.host, PASSWORD)))
    with RegistryClient(repository, DockerConfig.load()) as client:
        image = push_image(client)
        assert len(attach(client, image.manifest_digests, signed(image))) == 2


def test_the_login_may_come_from_a_credential_helper(
    locked: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-example"
    answer = json.dumps({"Username": "robot", "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread host\n[ \"$host\" = {locked.host} ] && echo '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    docker = DockerConfig({"credHelpers": {locked.host: "example"}})
    with RegistryClient(locked.repository("acme/helped"), docker) as client:
        push_image(client)


def test_the_command_attaches_and_verifies(client: RegistryClient, tmp_path: Path) -> None:
    image = push_image(client)
    bundle, key = tmp_path / "bundle.json", tmp_path / "key.pem"
    bundle.write_bytes(signed(image))
    key.write_bytes(SIGNER.public_key_pem)
    runner = CliRunner()
    command = ["attach", image.names[0], "--attestation", str(bundle)]
    done = runner.invoke(cli.app, command, env={"DOCKER_CONFIG": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert all(digest in done.stdout for digest in image.manifest_digests)
    other = push_image(client, "other")
    refused = runner.invoke(cli.app, ["attach", other.names[0], "--attestation", str(bundle)])
    assert refused.exit_code == 1
    absent = runner.invoke(cli.app, ["attach", f"{client.repository}:none"])
    assert absent.exit_code == 3

    document_file = tmp_path / "document.json"
    payload = json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"]
    body = read_statement(base64.b64decode(payload)).document
    document_file.write_bytes(body)
    check = ["verify", str(document_file), "--attestation", str(bundle), "--key", str(key)]
    verified = runner.invoke(cli.app, check)
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["key"] == SIGNER.key_id
    for position in (0, len(body) // 2, len(body) - 1):
        changed = bytearray(body)
        changed[position] ^= 1
        document_file.write_bytes(bytes(changed))
        refuted = runner.invoke(cli.app, check)
        assert refuted.exit_code == 1, refuted.output
        assert "not the one that was signed" in refuted.stderr
    stranger = LocalSigner(ec.generate_private_key(ec.SECP256R1()))
    key.write_bytes(stranger.public_key_pem)
    assert runner.invoke(cli.app, ["verify", str(bundle), "--key", str(key)]).exit_code == 1
    assert runner.invoke(cli.app, ["verify", str(bundle), "--key", "/none"]).exit_code == 2
