"""Signing by identity, with the real servers of a Sigstore (tests/support/sigstore.py)."""

import hashlib
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner, Result

from services import cli
from services.ci import attest
from services.ci.errors import PublicationError
from services.common.settings import CommonSettings
from services.publish.attestor import load_attestor
from services.publish.errors import SigningKeyError, VerificationError
from services.publish.keyless import verify_identity
from services.publish.signing import SigningSettings
from tests.support.api import api_under_test, document
from tests.support.sigstore import WORKFLOW, Sigstore
from tests.unit.documents import TWO_DIGESTS, shared_vulnerability
from vexstream.intoto import parse_envelope, to_sign
from vexstream.status import Status

pytestmark = pytest.mark.real

_WHO = "release@example.test"
_DOCUMENT = shared_vulnerability(Status.NOT_AFFECTED)


@pytest.fixture
def signing(sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SigningSettings:
    """Settings as those of a pod that is given tokens."""
    token = tmp_path / "token"
    token.write_text(sigstore.issuer.token(_WHO))
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEYLESS", "true")
    monkeypatch.setenv("VEXSTREAM_SIGNING_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("VEXSTREAM_SIGSTORE_TRUST_CONFIG", str(sigstore.trust_config))
    return SigningSettings()


def test_an_identity_signs_and_only_it_is_believed(
    sigstore: Sigstore, signing: SigningSettings, tmp_path: Path
) -> None:
    file = tmp_path / "bundle.json"
    bundle = attest.sign(_DOCUMENT, TWO_DIGESTS, attest.attestor(), file)
    assert file.read_bytes() == bundle
    made = json.loads(bundle)
    assert made["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert made["verificationMaterial"]["tlogEntries"]
    assert made["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]

    issuer, trust = sigstore.issuer.url, sigstore.trust_config
    attested = verify_identity(bundle, _WHO, issuer, trust)
    assert attested.document == _DOCUMENT
    for identity, by in (("mallory@example.test", issuer), (_WHO, "https://other.example")):
        with pytest.raises(VerificationError):
            verify_identity(bundle, identity, by, trust)
    payload = parse_envelope(bundle).payload
    made["dsseEnvelope"]["payload"] = b64encode(payload.replace(b"web", b"wed", 1)).decode()
    with pytest.raises(VerificationError):
        verify_identity(json.dumps(made).encode(), _WHO, issuer, trust)
    with pytest.raises(VerificationError):
        verify_identity(_with_a_certificate_of_itself(bundle), _WHO, issuer, trust)


def test_a_job_of_github_signs_as_its_workflow(
    sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the token that the runner's endpoint gives it; without the permission there is none."""
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEYLESS", "true")
    monkeypatch.setenv("VEXSTREAM_SIGSTORE_TRUST_CONFIG", str(sigstore.trust_config))
    for name, value in sigstore.github.job().items():
        monkeypatch.setenv(name, value)
    bundle = attest.sign(_DOCUMENT, TWO_DIGESTS, attest.attestor(), tmp_path / "bundle.json")
    workflow, trust = f"https://github.com/{WORKFLOW}", sigstore.trust_config
    assert verify_identity(bundle, workflow, sigstore.github.url, trust).document == _DOCUMENT
    for whose in (workflow.replace("main", "feature"), workflow.replace("acme", "mallory")):
        with pytest.raises(VerificationError):
            verify_identity(bundle, whose, sigstore.github.url, trust)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another job's")
    with pytest.raises(PublicationError, match="401"):
        attest.attestor()
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    with pytest.raises(PublicationError, match="insufficient OIDC token permissions"):
        attest.attestor()


def test_a_job_of_gitlab_signs_with_the_token_that_it_was_given(
    sigstore: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that examples/ci/gitlab.yml names."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEYLESS", "true")
    monkeypatch.setenv("VEXSTREAM_SIGSTORE_TRUST_CONFIG", str(sigstore.trust_config))
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", sigstore.issuer.token(_WHO))
    bundle = attest.sign(_DOCUMENT, TWO_DIGESTS, attest.attestor(), tmp_path / "bundle.json")
    attested = verify_identity(bundle, _WHO, sigstore.issuer.url, sigstore.trust_config)
    assert attested.document == _DOCUMENT


def test_the_same_document_is_signed_once(signing: SigningSettings) -> None:
    attestor = load_attestor(signing)
    assert attestor is not None
    first = attestor.attest(_DOCUMENT, TWO_DIGESTS)
    assert attestor.attest(_DOCUMENT, TWO_DIGESTS) == first
    assert attestor.attest(shared_vulnerability(Status.AFFECTED), TWO_DIGESTS) != first


def test_a_token_that_is_over_or_of_somebody_else_does_not_sign(
    sigstore: Sigstore, signing: SigningSettings, tmp_path: Path
) -> None:
    attestor = load_attestor(signing)
    assert attestor is not None
    (tmp_path / "token").write_text(sigstore.issuer.token(_WHO, seconds=-60))
    with pytest.raises(SigningKeyError, match="Sigstore does not sign"):
        attestor.attest(_DOCUMENT, TWO_DIGESTS)
    forged = sigstore.issuer.token(_WHO)[:-8] + "AAAAAAAA"
    (tmp_path / "token").write_text(forged)
    with pytest.raises(SigningKeyError, match="Sigstore does not sign"):
        attestor.attest(_DOCUMENT, TWO_DIGESTS)
    (tmp_path / "token").unlink()
    with pytest.raises(SigningKeyError, match="cannot be read"):
        attestor.attest(_DOCUMENT, TWO_DIGESTS)


async def test_the_api_signs_by_identity_and_the_command_verifies(
    kafka_settings: CommonSettings,
    postgres_url: str,
    sigstore: Sigstore,
    signing: SigningSettings,
    tmp_path: Path,
) -> None:
    sha256 = hashlib.sha256(_DOCUMENT).hexdigest()
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document(image=TWO_DIGESTS, body=_DOCUMENT, sha256=sha256, version=1))
        async with api.running() as client:
            await api.settled()
            digest = TWO_DIGESTS.config_digest
            answer = await client.get(f"/vex/{digest}/attestation")
            assert answer.status_code == 200, answer.text
            again = await client.get(f"/vex/{digest}/attestation")
            assert again.headers["etag"] == answer.headers["etag"]
            key = await client.get("/signing-key.pem")
            assert (key.status_code, "--identity" in key.json()["detail"]) == (404, True)
    bundle, shown = tmp_path / "bundle.json", tmp_path / "document.json"
    bundle.write_bytes(answer.content)
    shown.write_bytes(_DOCUMENT)
    whose = ("--identity", _WHO, "--issuer", sigstore.issuer.url)
    done = _verify(str(shown), "--attestation", str(bundle), *whose)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["identity"] == _WHO
    shown.write_bytes(_DOCUMENT.replace(b"not_affected", b"not_affecteD", 1))
    assert _verify(str(shown), "--attestation", str(bundle), *whose).exit_code == 1
    assert _verify(str(bundle), "--identity", "x", "--issuer", sigstore.issuer.url).exit_code == 1


def _with_a_certificate_of_itself(bundle: bytes) -> bytes:
    """A bundle whose certificate names the identity, but is signed by nobody who is trusted."""
    made = json.loads(bundle)
    raw = made["verificationMaterial"]["certificate"]
    genuine = x509.load_der_x509_certificate(b64decode(raw["rawBytes"]))
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(genuine.subject)
        .issuer_name(genuine.issuer)
        .public_key(key.public_key())
        .serial_number(genuine.serial_number)
        .not_valid_before(genuine.not_valid_before_utc)
        .not_valid_after(genuine.not_valid_after_utc)
    )
    for extension in genuine.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    forged = builder.sign(key, hashes.SHA256())
    raw["rawBytes"] = b64encode(forged.public_bytes(serialization.Encoding.DER)).decode()
    signature = key.sign(to_sign(parse_envelope(bundle).payload), ec.ECDSA(hashes.SHA256()))
    made["dsseEnvelope"]["signatures"][0]["sig"] = b64encode(signature).decode()
    return json.dumps(made).encode()


def _verify(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["verify", *arguments])
