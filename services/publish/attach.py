"""Attaches signed documents to images: OCI 1.1 referrers, in the layout of cosign 3.

A referrer is a manifest with one layer, the Sigstore bundle, an empty config, and the image as its
subject. Where the registry has no referrers API, the index under the tag ``sha256-<hex>`` lists it
(OCI distribution spec 1.1, "Referrers Tag Schema"). Trivy reads the first OpenVEX attestation that
it finds and no other, so documents of ours that are superseded are taken away.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from services.publish.errors import NotInRegistryError, OutrankedError
from services.publish.registry import (
    INDEX_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPE,
    Manifest,
    RegistryClient,
)
from vexstream.document_ids import are_of_one_image, is_of_tests, replaces
from vexstream.identity import Digest
from vexstream.intoto import (
    BUNDLE_MEDIA_TYPE,
    PREDICATE_TYPE,
    Attested,
    parse_envelope,
    read_statement,
)
from vexstream.products import is_sound_for
from vexstream.scan import ManifestDigest, PlatformImage

log = structlog.get_logger()

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
OURS = "dev.vexstream.document"
"""Annotation with the id of the document; which replaces which: vexstream/document_ids.py."""
VERSION = "dev.vexstream.document.version"
_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True)
class Attached:
    """What was done for one digest of an image."""

    subject: Digest
    referrer: Digest
    superseded: tuple[str, ...]
    by_tag: bool
    """The registry has no referrers API."""


def attach(client: RegistryClient, digests: Iterable[str], bundle: bytes) -> list[Attached]:
    """Attaches a bundle to those of the digests that the repository has.

    A scanner applies what it finds at an index to whichever platform it scans. So one of several
    images gets the document only if that hits no other of them (vexstream/products.py). Doing it
    again changes nothing.

    Raises:
        NotInRegistryError: the repository has none of them, or none that it may be attached to.
        RegistryError: the registry does not answer, or refuses.
        BadAttestationError: it is no bundle of a document of ours.
        OutrankedError: it rests on tests, and a document that rests on more is attached; or it is
            older than what is attached of it.
    """
    attested = _attested(bundle)
    document = json.loads(attested.document)
    annotations = _annotations(document)
    own = [subject.digest for subject in attested.subjects]
    found = [manifest for d in digests if (manifest := _find(client, d)) is not None]
    subjects = [
        manifest
        for manifest in found
        if not _is_shared(manifest) or is_sound_for(_listed_by(manifest), document, own)
    ]
    if not subjects:
        raise NotInRegistryError(
            f"{client.repository} has no manifest that the document may be attached to: none of "
            "its image alone, and no index for which it rules out packages by architecture only"
        )
    for there in _attached(client, subjects):
        _require_no_better(annotations, there)
    layer = client.put_blob(bundle) | {"mediaType": BUNDLE_MEDIA_TYPE}
    config = client.put_blob(_EMPTY) | {"mediaType": EMPTY_TYPE}
    return [_attach(client, subject, layer, config, annotations) for subject in subjects]


def images_of(manifest: Manifest) -> list[PlatformImage]:
    """What an index lists but for attestations; nothing for a manifest."""
    found = []
    for entry in manifest.read().get("manifests") or []:
        platform = entry.get("platform") or {}
        architecture = str(platform.get("architecture", ""))
        if architecture != "unknown":
            name = f"{platform.get('os', '')}/{architecture}" if architecture else ""
            found.append(PlatformImage(Digest(str(entry["digest"])), name))
    return found


def fallback_tag(digest: str) -> str:
    """The tag whose index lists the referrers of a digest."""
    return digest.replace(":", "-")


def _attach(
    client: RegistryClient,
    subject: Manifest,
    layer: dict[str, Any],
    config: dict[str, Any],
    annotations: dict[str, str],
) -> Attached:
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": BUNDLE_MEDIA_TYPE,
        "config": config,
        "layers": [layer],
        "subject": subject.descriptor,
        "annotations": annotations,
    }
    referrer = Manifest(MANIFEST_TYPE, json.dumps(content, separators=(",", ":")).encode())
    noted = client.put_manifest(referrer)
    listed = client.referrers(subject.digest)
    # Some registries have the API and do not say so in their answer to the manifest.
    by_tag = not noted and referrer.digest not in {one.get("digest") for one in listed or []}
    if by_tag:
        listed = _list_by_tag(client, subject, referrer, annotations)
    superseded = [old for old in listed or [] if _is_superseded(client, old, referrer, annotations)]
    for old in superseded:
        deleted = client.delete_manifest(old["digest"])
        if not deleted and not by_tag:
            log.warning(
                "a superseded attestation stays: the registry does not delete",
                repository=str(client.repository),
                digest=old["digest"],
            )
    gone = tuple(str(old["digest"]) for old in superseded)
    return Attached(subject.digest, referrer.digest, gone, by_tag)


def _list_by_tag(
    client: RegistryClient, subject: Manifest, referrer: Manifest, annotations: dict[str, str]
) -> list[dict[str, Any]]:
    """Puts the referrer first into the index under the tag; returns what was listed before."""
    before, listed = _listed_by_tag(client, subject.digest)
    others = [
        one
        for one in listed
        if one.get("digest") != referrer.digest
        and not _is_superseded(client, one, referrer, annotations)
    ]
    ours = referrer.descriptor | {"artifactType": BUNDLE_MEDIA_TYPE, "annotations": annotations}
    content = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [ours, *others]}
    index = Manifest(INDEX_TYPE, json.dumps(content, separators=(",", ":")).encode())
    if before is None or before.digest != index.digest:
        client.put_manifest(index, fallback_tag(subject.digest))
    return listed


def _listed_by_tag(
    client: RegistryClient, digest: str
) -> tuple[Manifest | None, list[dict[str, Any]]]:
    found = _find(client, fallback_tag(digest))
    return found, [] if found is None else found.read().get("manifests") or []


def _attached(client: RegistryClient, subjects: Iterable[Manifest]) -> Iterator[Mapping[str, str]]:
    """The annotations of our documents that are attached already."""
    for digest in (subject.digest for subject in subjects):
        for listed in [*(client.referrers(digest) or []), *_listed_by_tag(client, digest)[1]]:
            annotations = _annotations_of(client, listed)
            if OURS in annotations:
                yield annotations


def _require_no_better(ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """Scanners read one attachment: it must not be that of the tests where there is another, nor an
    older one, as of a job that was held up."""
    mine, other = ours[OURS], theirs[OURS]
    if is_of_tests(mine) and not is_of_tests(other) and are_of_one_image(mine, other):
        raise OutrankedError(
            f"{other} is attached to the image and rests on more than tests, which must "
            "not take its place: join both documents with `vexstream merge`"
        )
    # Numbers alone do not tell: they begin again where the correlator has lost its state.
    earlier = int(ours[VERSION]) < _number(theirs.get(VERSION)) and ours[_CREATED] < theirs.get(
        _CREATED, ""
    )
    if mine == other and earlier:
        raise OutrankedError(
            f"version {theirs[VERSION]} of {other} is attached to the image, which version "
            f"{ours[VERSION]} must not take the place of: fetch the attestation anew"
        )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 18 else 0


def _is_superseded(
    client: RegistryClient,
    descriptor: dict[str, Any],
    referrer: Manifest,
    annotations: dict[str, str],
) -> bool:
    """Whether a listed referrer is an older document of ours about the same image."""
    if descriptor.get("digest") == referrer.digest:
        return False
    theirs = _document_of(client, descriptor)
    return theirs is not None and replaces(annotations[OURS], theirs)


def _document_of(client: RegistryClient, descriptor: dict[str, Any]) -> str | None:
    """The id of the document of ours that a listed referrer holds."""
    return _annotations_of(client, descriptor).get(OURS)


def _annotations_of(client: RegistryClient, descriptor: dict[str, Any]) -> dict[str, str]:
    annotations = descriptor.get("annotations")
    if annotations is None:  # not every registry copies them into its list
        found = _find(client, str(descriptor.get("digest")))
        annotations = found.read().get("annotations") if found is not None else None
    return {str(name): str(value) for name, value in (annotations or {}).items()}


def _is_shared(manifest: Manifest) -> bool:
    """Whether it is an index that may stand for more than one image."""
    entries = manifest.read().get("manifests")
    if entries is None:
        return False
    nested = any(entry.get("mediaType") in INDEX_TYPES for entry in entries)
    return nested or len(images_of(manifest)) != 1


def _listed_by(index: Manifest) -> ManifestDigest:
    return ManifestDigest(index.digest, tuple(images_of(index)))


def _attested(bundle: bytes) -> Attested:
    return read_statement(parse_envelope(bundle).payload)


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    return {
        _CREATED: document["timestamp"],
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": PREDICATE_TYPE,
        "in-toto.io/predicate-type": PREDICATE_TYPE,
        OURS: document["@id"],
        VERSION: str(document["version"]),
    }


def _find(client: RegistryClient, digest: str) -> Manifest | None:
    try:
        return client.manifest(digest)
    except NotInRegistryError:
        return None
