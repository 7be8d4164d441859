"""Keys: signing with one, verifying with any of several.

A key is an ECDSA key on P-256 or an Ed25519 key in PEM. Its id is the SHA-256 of the public key
(DER, SubjectPublicKeyInfo), so that a verifier with several keys knows which one to try first.
Signatures are deterministic: the same document and key give the same attestation.

Keys that do not leave a KMS come in by a plug-in: an entry point of the group
``vexstream.signers``, named like the scheme of ``VEXSTREAM_SIGNING_KEY_URI``, that takes the URI
and returns a ``Signer``.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.publish.errors import SigningKeyError, VerificationError
from vexstream.identity import Image
from vexstream.intoto import (
    Attested,
    BadAttestationError,
    Envelope,
    Signature,
    parse_envelope,
    read_statement,
    statement,
    subjects_of,
    to_sign,
)

PLUGINS = "vexstream.signers"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Signer(Protocol):
    """Whoever can sign with one key."""

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key in hex."""

    @property
    def public_key_pem(self) -> bytes:
        """The public key, for those who verify."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256 in DER, or Ed25519.

        Raises:
            SigningKeyError: the key cannot be used now.
        """


class SigningSettings(BaseSettings):
    """Which key signs; documents are not signed when none is named. At most one may be."""

    model_config = SettingsConfigDict(env_prefix="VEXSTREAM_", extra="ignore", frozen=True)

    signing_key: SecretStr | None = None
    """The key itself, in PEM."""
    signing_key_file: Path | None = None
    """A file with the key in PEM."""
    signing_key_password: SecretStr | None = None
    """Of an encrypted key."""
    signing_key_uri: str | None = None
    """scheme:..., for the plug-in of that scheme."""
    signing_keyless: bool = False
    """Sign by identity (services/publish/keyless.py)."""
    signing_identity_token_file: Path | None = None
    """A file with the OIDC token of that identity; else the CI is asked for it."""
    sigstore_trust_config: Path | None = None
    """Which Sigstore to sign with; the public one."""


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """Signs with a key that this process holds."""

    _key: PrivateKey

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key in hex."""
        return key_id(self._key.public_key())

    @property
    def public_key_pem(self) -> bytes:
        """The public key."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, message: bytes) -> bytes:
        """The signature over the message."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


class Memory:
    """Remembers what was made of a message: at most ``most`` of them, the oldest goes first."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._known: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def once(self, message: bytes, make: Callable[[], bytes]) -> bytes:
        """What was made of the message first."""
        digest = hashlib.sha256(message).digest()
        with self._lock:
            if digest in self._known:
                return self._known[digest]
        made = make()
        with self._lock:
            while len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            return self._known.setdefault(digest, made)


class Remembering:
    """A signer that signs the same message once: a KMS takes its time and its price, and many give
    another signature each time, which would be another attestation."""

    def __init__(self, signer: Signer, most: int = 4096) -> None:
        self._signer = signer
        self._memory = Memory(most)

    @property
    def key_id(self) -> str:
        """That of the signer."""
        return self._signer.key_id

    @property
    def public_key_pem(self) -> bytes:
        """That of the signer."""
        return self._signer.public_key_pem

    def sign(self, message: bytes) -> bytes:
        """The signature, as it was made first.

        Raises:
            SigningKeyError: the key cannot be used now.
        """
        return self._memory.once(message, lambda: self._signer.sign(message))


def load_signer(settings: SigningSettings) -> Signer | None:
    """The signer that the settings name; None when they name none.

    Raises:
        SigningKeyError: the key is unusable, or more than one is named.
    """
    named = [settings.signing_key, settings.signing_key_file, settings.signing_key_uri]
    if sum(one is not None for one in named) > 1:
        raise SigningKeyError(
            "set only one of VEXSTREAM_SIGNING_KEY, VEXSTREAM_SIGNING_KEY_FILE and "
            "VEXSTREAM_SIGNING_KEY_URI"
        )
    password = settings.signing_key_password
    secret = password.get_secret_value().encode() if password else None
    if settings.signing_key is not None:
        pem = settings.signing_key.get_secret_value().encode()
        return local_signer(pem, secret, "VEXSTREAM_SIGNING_KEY")
    if settings.signing_key_file is not None:
        pem = _read(settings.signing_key_file)
        return local_signer(pem, secret, str(settings.signing_key_file))
    if settings.signing_key_uri is not None:
        return _plugin(settings.signing_key_uri)
    return None


def local_signer(pem: bytes, password: bytes | None, source: str) -> LocalSigner:
    """A signer with a private key in PEM; ``source`` names it in errors.

    Raises:
        SigningKeyError: it is none, or of an unsupported kind.
    """
    try:
        key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError) as error:
        raise SigningKeyError(f"{source} holds no usable private key in PEM: {error}") from error
    except Exception as error:  # the library raises what OpenSSL makes of the bytes
        raise SigningKeyError(f"{source} holds an unsupported key: {error}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return LocalSigner(key)
    raise SigningKeyError(f"{source} is neither an ECDSA key on P-256 nor an Ed25519 key")


def read_public_keys(paths: Iterable[Path]) -> dict[str, PublicKey]:
    """Public keys by their id; a file may hold several.

    Raises:
        SigningKeyError: a file has none, or one of an unsupported kind.
    """
    found: dict[str, PublicKey] = {}
    for path in paths:
        end = b"-----END PUBLIC KEY-----"
        blocks = [part + end for part in _read(path).split(end)[:-1]]
        if not blocks:
            raise SigningKeyError(f"{path} holds no public key in PEM (BEGIN PUBLIC KEY)")
        for block in blocks:
            key = _public_key(block, path)
            found[key_id(key)] = key
    return found


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key in DER, in hex."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def attest(document: bytes, image: Image, signer: Signer) -> Envelope:
    """The signed statement that the document is about the image."""
    payload = statement(document, subjects_of(image))
    return Envelope(payload, (Signature(signer.key_id, signer.sign(to_sign(payload))),))


def verify(attestation: bytes, keys: Mapping[str, PublicKey]) -> tuple[Attested, str]:
    """What an attestation states, and the id of the trusted key that signed it.

    Raises:
        VerificationError: no trusted key signed it, or it is no attestation.
    """
    try:
        envelope = parse_envelope(attestation)
        signed_by = _signed_by(envelope, keys)
        return read_statement(envelope.payload), signed_by
    except BadAttestationError as error:
        raise VerificationError(str(error)) from error


def _signed_by(envelope: Envelope, keys: Mapping[str, PublicKey]) -> str:
    message = to_sign(envelope.payload)
    for signature in envelope.signatures:
        hinted = {signature.key_id: keys[signature.key_id]} if signature.key_id in keys else keys
        for identifier, key in hinted.items():
            if _is_valid(key, signature.value, message):
                return identifier
    named = ", ".join(sorted({s.key_id or "(no id)" for s in envelope.signatures})) or "no key"
    raise VerificationError(
        f"no trusted key made the signature. It names {named}; trusted are "
        f"{', '.join(sorted(keys))}. Either the content was changed, or a --key is missing."
    )


def _is_valid(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _public_key(pem: bytes, path: Path) -> PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except Exception as error:  # the library raises what OpenSSL makes of the bytes
        raise SigningKeyError(f"{path} holds no usable public key: {error}") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise SigningKeyError(f"{path} is neither an ECDSA key on P-256 nor an Ed25519 key")


def _plugin(uri: str) -> Signer:
    scheme = uri.partition(":")[0]
    found = entry_points(group=PLUGINS, name=scheme)
    if not found:
        raise SigningKeyError(
            f"no installed package signs for {scheme}: URIs (entry points of {PLUGINS})"
        )
    signer: Signer = next(iter(found)).load()(uri)
    return signer


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyError(
            f"the key {path} cannot be read: {os.strerror(error.errno or 0)}"
        ) from (error)
