"""Signatures by an identity instead of a key: Sigstore (the extra ``keyless``).

Who signs shows a token of an OIDC issuer. Fulcio certifies a key of ten minutes for that identity,
a timestamp authority says when it was used, and a transparency log keeps that it was. A verifier
names the identity and its issuer; there is no key to hand out, to rotate or to lose.

Which Sigstore it is, a client trust configuration says; without one, the public instance.
"""

import base64
import json
from pathlib import Path

from sigstore.dsse import Statement
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from services.publish.errors import SigningKeyError, VerificationError
from services.publish.signing import Memory
from vexstream.identity import Image
from vexstream.intoto import (
    PAYLOAD_TYPE,
    Attested,
    BadAttestationError,
    read_statement,
    statement,
    subjects_of,
)


class KeylessAttestor:
    """Signs as whoever the token is of: that in a file, read anew each time, else that of the CI.

    Each signature has a certificate and a log entry of its own. The same document is signed once.
    """

    public_key_pem = None

    def __init__(self, trust_config: Path | None, token_file: Path | None) -> None:
        """
        Raises:
            SigningKeyError: there is no token, or the trust configuration cannot be used.
        """
        self._trust = _trust(trust_config)
        self._token_file = token_file
        self._memory = Memory()
        self._token()

    def attest(self, document: bytes, image: Image) -> bytes:
        """The Sigstore bundle of the statement that the document is about the image.

        Raises:
            SigningKeyError: there is no valid token, or Sigstore does not answer or refuses.
        """
        payload = statement(document, subjects_of(image))
        bundle = json.loads(self._memory.once(payload, lambda: self._sign(payload)))
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        return json.dumps(bundle, separators=(",", ":")).encode()

    def _sign(self, payload: bytes) -> bytes:
        """The bundle without its payload, which is large and known."""
        try:
            context = SigningContext.from_trust_config(self._trust)
            with context.signer(IdentityToken(self._token())) as signer:
                made = json.loads(signer.sign_dsse(Statement(payload)).to_json())
        except SigningKeyError:
            raise
        except Exception as error:  # each layer of sigstore and each of its services has its own
            raise SigningKeyError(f"Sigstore does not sign: {_said(error)}") from error
        del made["dsseEnvelope"]["payload"]
        return json.dumps(made).encode()

    def _token(self) -> str:
        if self._token_file is not None:
            try:
                return self._token_file.read_text().strip()
            except OSError as error:
                raise SigningKeyError(
                    f"the identity token {self._token_file} cannot be read: {error.strerror}"
                ) from error
        try:
            token = detect_credential()
        except Exception as error:  # each CI's way to a token fails in its own way
            raise SigningKeyError(f"the CI gives no identity token: {_said(error)}") from error
        if token is None:
            raise SigningKeyError(
                "there is no identity to sign with: this is no CI that gives tokens to its jobs; "
                "name a file with one by VEXSTREAM_SIGNING_IDENTITY_TOKEN_FILE"
            )
        return token


def verify_identity(
    attestation: bytes, identity: str, issuer: str, trust_config: Path | None
) -> Attested:
    """What an attestation states that the identity signed.

    Raises:
        VerificationError: it did not, or it is no attestation.
        SigningKeyError: the trust configuration cannot be used.
    """
    trust = _trust(trust_config)
    try:
        kind, payload = Verifier(trusted_root=trust.trusted_root).verify_dsse(
            Bundle.from_json(attestation), Identity(identity=identity, issuer=issuer)
        )
    except Exception as error:  # as above; whatever it was, nothing was verified
        raise VerificationError(
            f"{identity} of {issuer} did not sign it: {_said(error)}"
        ) from error
    if kind != PAYLOAD_TYPE:
        raise VerificationError(f"its payload is {kind}, no {PAYLOAD_TYPE}")
    try:
        return read_statement(payload)
    except BadAttestationError as error:
        raise VerificationError(str(error)) from error


def _trust(path: Path | None) -> ClientTrustConfig:
    try:
        if path is None:
            return ClientTrustConfig.production()
        return ClientTrustConfig.from_json(path.read_text())
    except Exception as error:  # a file, its JSON, its form, or TUF
        raise SigningKeyError(
            f"no usable Sigstore trust configuration {path or 'of the public instance'}: "
            f"{_said(error)}"
        ) from error


def _said(error: BaseException) -> str:
    """What the error says; several of sigstore's say nothing, but their cause does."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    return str(error)[:500] or type(error).__name__
