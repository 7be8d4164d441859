"""Signed documents: what verifies, and above all what does not."""

import base64
import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr
from typer.testing import CliRunner

from services import cli
from services.publish import attestor, signing
from services.publish.attestor import load_attestor
from services.publish.errors import SigningKeyError, VerificationError
from services.publish.signing import (
    LocalSigner,
    PrivateKey,
    PublicKey,
    Remembering,
    SigningSettings,
    attest,
    key_id,
    load_signer,
    read_public_keys,
    verify,
)
from tests.unit.documents import TWO_DIGESTS, shared_vulnerability
from tests.unit.factories import IMAGE, INDEX, MANIFEST
from vexstream.assessment import Status
from vexstream.intoto import (
    BadAttestationError,
    Envelope,
    Signature,
    Subject,
    bundle_bytes,
    envelope_bytes,
    parse_envelope,
    read_statement,
    statement,
    subjects_of,
    to_sign,
)

DOCUMENT = shared_vulnerability(Status.NOT_AFFECTED)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
KEYS: list[PrivateKey] = [P256, ED25519]


def trusted(*keys: PrivateKey) -> dict[str, PublicKey]:
    return {key_id(key.public_key()): key.public_key() for key in keys}


def pem(key: PrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", [bundle_bytes, envelope_bytes])
def test_what_was_signed_comes_back_to_the_byte(key: PrivateKey, form: object) -> None:
    assert callable(form)
    made = form(attest(DOCUMENT, TWO_DIGESTS, LocalSigner(key)))
    attested, signed_by = verify(made, trusted(*KEYS))
    assert attested.document == DOCUMENT
    assert attested.subjects == subjects_of(TWO_DIGESTS)
    assert signed_by == key_id(key.public_key())
    assert form(attest(DOCUMENT, TWO_DIGESTS, LocalSigner(key))) == made, "not deterministic"


def test_the_statement_is_as_in_toto_and_dsse_define_it() -> None:
    """Read by the letter of the specifications, without our reader."""
    envelope = json.loads(envelope_bytes(attest(DOCUMENT, TWO_DIGESTS, LocalSigner(ED25519))))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    ED25519.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    whole = json.loads(payload)
    assert whole["_type"] == "https://in-toto.io/Statement/v1"
    assert whole["predicateType"] == "https://openvex.dev/ns"
    assert whole["predicate"] == json.loads(DOCUMENT)
    assert whole["subject"] == [
        {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
        for name in ("localhost/web", "registry.example/acme/Web")
        for digest in (MANIFEST, INDEX)
    ]


def test_the_bundle_is_of_version_0_3() -> None:
    bundle = json.loads(bundle_bytes(attest(DOCUMENT, IMAGE, LocalSigner(P256))))
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle["verificationMaterial"] == {"publicKey": {"hint": key_id(P256.public_key())}}
    assert len(bundle["dsseEnvelope"]["signatures"]) == 1


@pytest.mark.parametrize("key", KEYS)
def test_no_changed_byte_of_the_payload_verifies(key: PrivateKey) -> None:
    envelope = attest(DOCUMENT, IMAGE, LocalSigner(key))
    for position in range(0, len(envelope.payload), 37):
        changed = bytearray(envelope.payload)
        changed[position] ^= 1
        forged = envelope_bytes(Envelope(bytes(changed), envelope.signatures))
        with pytest.raises(VerificationError):
            verify(forged, trusted(*KEYS))


def test_a_changed_signature_or_the_wrong_key_does_not_verify() -> None:
    envelope = attest(DOCUMENT, IMAGE, LocalSigner(P256))
    (signature,) = envelope.signatures
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(VerificationError, match=signature.key_id):
        verify(envelope_bytes(envelope), trusted(other, ED25519))
    bent = Signature(signature.key_id, signature.value[:-1] + bytes([signature.value[-1] ^ 1]))
    with pytest.raises(VerificationError):
        verify(envelope_bytes(Envelope(envelope.payload, (bent,))), trusted(P256))
    with pytest.raises(VerificationError):
        verify(envelope_bytes(Envelope(envelope.payload, ())), trusted(P256))


def test_keys_rotate(tmp_path: Path) -> None:
    """Old and new are trusted for a while; a key id that lies is only a hint."""
    file = tmp_path / "trusted.pem"
    file.write_bytes(LocalSigner(P256).public_key_pem + LocalSigner(ED25519).public_key_pem)
    both = read_public_keys([file])
    assert both.keys() == trusted(*KEYS).keys()
    for key in KEYS:
        attestation = bundle_bytes(attest(DOCUMENT, IMAGE, LocalSigner(key)))
        assert verify(attestation, both)[1] == key_id(key.public_key())
    new_only = trusted(ED25519)
    with pytest.raises(VerificationError):
        verify(bundle_bytes(attest(DOCUMENT, IMAGE, LocalSigner(P256))), new_only)
    envelope = attest(DOCUMENT, IMAGE, LocalSigner(ED25519))
    unnamed = Envelope(envelope.payload, (Signature("", envelope.signatures[0].value),))
    assert verify(envelope_bytes(unnamed), both)[1] == key_id(ED25519.public_key())


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"payloadType": "text/plain", "payload": "", "signatures": []}',
     b'{"payloadType": "application/vnd.in-toto+json", "payload": "!", "signatures": []}'],
)  # fmt: skip
def test_what_is_no_attestation_is_refused(text: bytes) -> None:
    with pytest.raises(BadAttestationError):
        parse_envelope(text)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", statement(b"[]", (Subject("a", MANIFEST),)),
     statement(b"{}", (Subject("a", MANIFEST),)).replace(b"openvex.dev", b"slsa.dev"),
     b" " + statement(b"{}", (Subject("a", MANIFEST),))],
)  # fmt: skip
def test_a_signed_payload_that_is_no_document_is_refused(payload: bytes) -> None:
    signature = Signature("", ED25519.sign(to_sign(payload)))
    with pytest.raises(BadAttestationError):
        read_statement(payload)
    with pytest.raises(VerificationError):
        verify(envelope_bytes(Envelope(payload, (signature,))), trusted(ED25519))


@pytest.mark.parametrize("key", KEYS)
def test_the_key_comes_from_a_file_or_the_environment(
    key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_signer(SigningSettings()) is None
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key, b"secret"))
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEY_FILE", str(file))
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEY_PASSWORD", "secret")
    from_file = load_signer(SigningSettings())
    monkeypatch.delenv("VEXSTREAM_SIGNING_KEY_FILE")
    monkeypatch.delenv("VEXSTREAM_SIGNING_KEY_PASSWORD")
    monkeypatch.setenv("VEXSTREAM_SIGNING_KEY", pem(key).decode())
    from_environment = load_signer(SigningSettings())
    assert from_file is not None
    assert from_environment is not None
    assert from_file.key_id == from_environment.key_id == key_id(key.public_key())
    assert "PRIVATE" not in repr(SigningSettings())


def test_either_a_key_or_an_identity_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_attestor(SigningSettings()) is None
    keyless = SigningSettings(signing_keyless=True)
    both = SigningSettings(signing_keyless=True, signing_key=SecretStr(pem(ED25519).decode()))
    with pytest.raises(SigningKeyError, match="only one can sign"):
        load_attestor(both)
    broken = tmp_path / "trust.json"
    broken.write_text("{}")
    with pytest.raises(SigningKeyError, match="no usable Sigstore trust configuration"):
        load_attestor(keyless.model_copy(update={"sigstore_trust_config": broken}))
    monkeypatch.setattr(attestor, "find_spec", lambda name: None)
    with pytest.raises(SigningKeyError, match=r"pip install 'vexstream\[keyless\]'"):
        load_attestor(keyless)
    result = CliRunner().invoke(cli.app, ["verify", "x", "--identity", "a", "--issuer", "b"])
    assert (result.exit_code, "vexstream[keyless]" in result.output) == (2, True)


@pytest.mark.parametrize(
    "options", [(), ("--identity", "a"), ("--issuer", "b"), ("--key", "k", "--identity", "a")]
)
def test_who_is_trusted_must_be_said(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, ["verify", "document.json", *options])
    assert result.exit_code == 2
    assert "--identity" in result.output


def test_unusable_keys_say_why(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    for content, reason in [
        (b"no key", "no usable private key"),
        (pem(rsa.generate_private_key(65537, 2048)), "neither an ECDSA key on P-256 nor"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither an ECDSA key on P-256 nor"),
        (pem(ED25519, b"secret"), "no usable private key"),
    ]:
        file.write_bytes(content)
        with pytest.raises(SigningKeyError, match=reason):
            load_signer(SigningSettings(signing_key_file=file))
    with pytest.raises(SigningKeyError, match="cannot be read"):
        load_signer(SigningSettings(signing_key_file=tmp_path / "none"))
    with pytest.raises(SigningKeyError, match="only one"):
        load_signer(SigningSettings(signing_key_file=file, signing_key=SecretStr("x")))
    with pytest.raises(SigningKeyError, match="no public key"):
        read_public_keys([file])


class KeyService(LocalSigner):
    """Signs as a package for a KMS does."""


def signer_for(uri: str) -> KeyService:
    """What an entry point of such a package names."""
    assert uri == "example-kms://keys/1"
    return KeyService(ED25519)


def test_a_plug_in_signs_for_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SigningSettings(signing_key_uri="example-kms://keys/1")
    with pytest.raises(SigningKeyError, match="no installed package signs for example-kms"):
        load_signer(settings)

    def installed(*, group: str, name: str) -> EntryPoints:
        assert (group, name) == ("vexstream.signers", "example-kms")
        return EntryPoints([EntryPoint(name, f"{__name__}:signer_for", group)])

    monkeypatch.setattr(signing, "entry_points", installed)
    signer = load_signer(settings)
    assert signer is not None
    attestation = bundle_bytes(attest(DOCUMENT, IMAGE, signer))
    assert verify(attestation, trusted(ED25519))[0].document == DOCUMENT


def test_a_message_is_signed_once_while_it_is_remembered() -> None:
    """The signatures of many KMS differ each time; the attestation must not."""

    class Counting(LocalSigner):
        calls = 0

        def sign(self, message: bytes) -> bytes:
            type(self).calls += 1
            return ED25519.sign(message) + bytes([self.calls])

    signer = Remembering(Counting(ED25519), most=2)
    first = [signer.sign(message) for message in (b"a", b"b", b"a", b"b")]
    assert first[:2] == first[2:]
    assert Counting.calls == 2
    signer.sign(b"c")
    assert signer.sign(b"b") == first[1]
    assert signer.sign(b"a") != first[0]
    assert signer.key_id == key_id(ED25519.public_key())
