"""Signed documents: in-toto statements in DSSE envelopes and Sigstore bundles. Pure, without keys.

Specs: in-toto attestation framework, statement v1; DSSE protocol v1; Sigstore bundle v0.3.

The document is the predicate, byte for byte: who verified a signature has the very bytes that were
published, and can compare them with what a server hands out.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vexstream.identity import Digest, Image, parse_digest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://openvex.dev/ns"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class BadAttestationError(ValueError):
    """The bytes are no attestation of a VEX document in the form that is written here."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the document is about: a digest of the image under one of its names."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the id of the key that made it; the id is a hint and proves nothing."""

    key_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its signatures. Nothing of it may be trusted before one was verified."""

    payload: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Attested:
    """What a payload states."""

    subjects: tuple[Subject, ...]
    document: bytes


def subjects_of(image: Image) -> tuple[Subject, ...]:
    """Every digest under which the image can be pulled; the config digest when there is none."""
    digests = image.manifest_digests or (image.config_digest,)
    names = sorted({repository_of(name) for name in image.names}) or ["image"]
    return tuple(Subject(name, digest) for name in names for digest in digests)


def repository_of(name: str) -> str:
    """The name of an image without tag and digest."""
    bare = name.partition("@")[0]
    folder, slash, last = bare.rpartition("/")
    return folder + slash + last.partition(":")[0]


def statement(document: bytes, subjects: Sequence[Subject]) -> bytes:
    """The payload to sign."""
    return _beginning(subjects) + document + b"}"


def to_sign(payload: bytes) -> bytes:
    """The pre-authentication encoding: what a signature is made over."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope_bytes(envelope: Envelope) -> bytes:
    """A DSSE envelope as JSON."""
    return json.dumps(_envelope_json(envelope), separators=(",", ":")).encode()


def bundle_bytes(envelope: Envelope) -> bytes:
    """A Sigstore bundle as JSON. It takes an envelope with one signature."""
    (signature,) = envelope.signatures
    bundle = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": signature.key_id}},
        "dsseEnvelope": _envelope_json(envelope),
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def parse_envelope(attestation: bytes) -> Envelope:
    """Reads a DSSE envelope or a Sigstore bundle.

    Raises:
        BadAttestationError: it is neither.
    """
    try:
        whole = json.loads(attestation)
        inner = whole.get("dsseEnvelope", whole)
        if inner["payloadType"] != PAYLOAD_TYPE:
            raise BadAttestationError(f"its payload is {inner['payloadType']}, no {PAYLOAD_TYPE}")
        signatures = tuple(
            Signature(str(s.get("keyid", "")), base64.b64decode(s["sig"], validate=True))
            for s in inner["signatures"]
        )
        return Envelope(base64.b64decode(inner["payload"], validate=True), signatures)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BadAttestationError):
            raise
        raise BadAttestationError(
            f"this is no DSSE envelope and no Sigstore bundle: {type(error).__name__}: {error}"
        ) from error


def read_statement(payload: bytes) -> Attested:
    """What a payload states; only of one whose signature was verified.

    Raises:
        BadAttestationError: it is no statement as ``statement`` writes it.
    """
    try:
        whole = json.loads(payload)
        subjects = tuple(
            Subject(subject["name"], parse_digest("sha256:" + subject["digest"]["sha256"]))
            for subject in whole["subject"]
        )
        beginning = _beginning(subjects)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadAttestationError(f"this is no in-toto statement: {error}") from error
    if not (payload.startswith(beginning) and payload.endswith(b"}")):
        raise BadAttestationError("this is no statement about a VEX document of vexstream")
    document = payload[len(beginning) : -1]
    if not _is_object(document):
        raise BadAttestationError("the predicate of the statement is no JSON object")
    return Attested(subjects, document)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _beginning(subjects: Iterable[Subject]) -> bytes:
    listed = [
        {"name": subject.name, "digest": {"sha256": subject.digest.removeprefix("sha256:")}}
        for subject in subjects
    ]
    head = {"_type": STATEMENT_TYPE, "subject": listed, "predicateType": PREDICATE_TYPE}
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"predicate":'


def _envelope_json(envelope: Envelope) -> dict[str, Any]:
    return {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"sig": base64.b64encode(signature.value).decode(), "keyid": signature.key_id}
            for signature in envelope.signatures
        ],
    }
