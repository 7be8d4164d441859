"""Who makes attestations here, by the settings: a key, or an identity."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from services.publish.errors import SigningKeyError
from services.publish.signing import Remembering, Signer, SigningSettings, attest, load_signer
from vexstream.identity import Image
from vexstream.intoto import bundle_bytes


class Attestor(Protocol):
    """Whoever can sign the statement that a document is about an image."""

    @property
    def public_key_pem(self) -> bytes | None:
        """The key to verify with; None when that is done by identity."""

    def attest(self, document: bytes, image: Image) -> bytes:
        """The signed statement as a Sigstore bundle, for the same input the same bundle.

        Raises:
            SigningKeyError: it cannot be signed now.
        """


@dataclass(frozen=True, slots=True)
class KeyAttestor:
    """Attests with a key."""

    _signer: Signer

    @property
    def public_key_pem(self) -> bytes:
        """The public key."""
        return self._signer.public_key_pem

    def attest(self, document: bytes, image: Image) -> bytes:
        """A bundle with the key's id."""
        return bundle_bytes(attest(document, image, self._signer))


def load_attestor(settings: SigningSettings) -> Attestor | None:
    """The attestor that the settings name; None when they name none.

    Raises:
        SigningKeyError: it cannot be used, or more than one is named.
    """
    signer = load_signer(settings)
    if not settings.signing_keyless:
        return None if signer is None else KeyAttestor(Remembering(signer))
    if signer is not None:
        raise SigningKeyError("VEXSTREAM_SIGNING_KEYLESS is set, and a key: only one can sign")
    require_keyless()
    from services.publish.keyless import KeylessAttestor

    return KeylessAttestor(settings.sigstore_trust_config, settings.signing_identity_token_file)


def require_keyless() -> None:
    """
    Raises:
        SigningKeyError: Sigstore's library is not installed.
    """
    if find_spec("sigstore") is None:
        raise SigningKeyError("keyless signatures need: pip install 'vexstream[keyless]'")
