"""By which digests an image goes, and which of them a statement may name as products. Pure.

Collectors say by which digests an image was pulled, and whoever has a collector's account may say
anything. So a scan confirms them: it has read what is behind a digest, whose content cannot be
another, and found this image's configuration there, or an index that leads to it. One that it could
not read may be any image's, and then documents and decisions of one would hold for the other.

A manifest stands for one image. An index stands for all that it lists, and a consumer that scans by
its digest, or by a tag of it, applies what is said of the index to whichever platform it scans. So
a digest that is not known to stand for this image alone is named, by default,

- by statements that rule nothing out, and
- by others only for packages whose purl names an architecture that no other image of the index has,
  and then with that architecture in the purl of the image too. Consumers compare the qualifier
  ``arch`` on both sides: it is a package of this image that is meant, also where another image of
  the index holds packages of this architecture, as one of a cross compiler may.

Trivy knows an index by its digest and the architecture of the image that it scans. Grype does not
tell the architecture, so what is ruled out that way it does not find. For it there is the policy
``native``, which leaves the architecture of the image out, and trusts that no other image of the
index holds packages of this one's. The policy ``none`` names a shared digest by nothing that rules
out.

What a package's own architecture is, its distribution says: an amd64 image may hold i386 packages,
and so may the 386 image of the same index. ``all`` and ``noarch`` are on every platform.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vexstream.identity import Digest, Image
from vexstream.purl import on_architecture, product
from vexstream.scan import ManifestDigest
from vexstream.status import RULES_OUT


class IndexProducts(StrEnum):
    """What the operator says of images that share an index."""

    SOUND = "sound"
    """They may run other code: the rules above hold."""
    NATIVE = "native"
    """The same, but none holds packages of another one's architecture: Grype is told as well."""
    NONE = "none"
    """Nothing is ruled out by a shared digest."""
    ALL = "all"
    """They run the same code, and all are observed: every digest is named by every statement."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A digest that other images go by as well."""

    purl: str
    architecture: str = ""
    """That only this image has there; empty when there is none."""
    ruled_out: str = ""
    """The purl by which packages of the architecture are ruled out."""


@dataclass(frozen=True, slots=True)
class Products:
    """The purls of an image, each part sorted."""

    own: tuple[str, ...]
    """Of the image alone; never empty."""
    shared: tuple[Shared, ...]


def confirmed(image: Image, manifests: Iterable[ManifestDigest]) -> Image:
    """The image by those digests that were read and lead to it."""
    read = {manifest.digest: manifest for manifest in manifests}
    leading = {digest for digest, manifest in read.items() if _is_own(manifest)}
    while True:
        more = {
            digest
            for digest, manifest in read.items()
            if any(listed.digest in leading for listed in manifest.images)
        }
        if more <= leading:
            break
        leading |= more
    digests = tuple(digest for digest in image.manifest_digests if digest in leading)
    return replace(image, manifest_digests=digests)


def _is_own(manifest: ManifestDigest) -> bool:
    return any(listed.digest == manifest.digest for listed in manifest.images)


def products_of(
    image: Image, manifests: Iterable[ManifestDigest], policy: IndexProducts = IndexProducts.SOUND
) -> Products:
    """Sorts the digests of an image by what was read of them.

    A digest that was not read may be an index of anything. Without any digest of its own the image
    goes by its config digest.
    """
    read = {manifest.digest: manifest for manifest in manifests}
    own = [
        digest
        for digest in image.manifest_digests
        if policy is IndexProducts.ALL or _stands_alone(digest, read)
    ]
    shared = [digest for digest in image.manifest_digests if digest not in own]
    indexes = {} if policy is IndexProducts.NONE else read
    return Products(
        own=_purls(image, own or [image.config_digest]),
        shared=tuple(
            _shared(purl, _architecture(indexes.get(digest), own), policy)
            for digest in shared
            for purl in _purls(image, [digest])
        ),
    )


def _shared(purl: str, architecture: str, policy: IndexProducts) -> Shared:
    if not architecture:
        return Shared(purl)
    on_platform = f"{purl}?arch={architecture}" if policy is IndexProducts.SOUND else purl
    return Shared(purl, architecture, on_platform)


def product_purls(image: Image) -> list[str]:
    """Every digest under each name the image goes by, whatever it stands for."""
    return list(_purls(image, image.manifest_digests or (image.config_digest,)))


def is_sound_for(index: ManifestDigest, document: Mapping[str, Any], own: Iterable[Digest]) -> bool:
    """Whether a document speaks of an index of several images, and hits none of them but ``own``.

    The same rules, for a document that somebody may have made otherwise: whatever is ruled out for
    the index names its packages by an architecture that only the image of the document has there.
    """
    architecture = _architecture(index, own)
    named = [
        (statement["status"], [part["@id"] for part in named.get("subcomponents") or ()])
        for statement in document["statements"]
        for named in statement["products"]
        if _may_be(index.digest, named["@id"].lower())
    ]
    return bool(named) and all(
        status not in RULES_OUT
        or (parts and all(on_architecture((part,), part, architecture) for part in parts))
        for status, parts in named
    )


def _may_be(digest: Digest, product_id: str) -> bool:
    """A product without a digest is every image."""
    return digest.removeprefix("sha256:") in product_id or "sha256" not in product_id


def _purls(image: Image, digests: Iterable[Digest]) -> tuple[str, ...]:
    names = image.names or ("image",)
    return tuple(sorted({product(name, digest) for name in names for digest in digests}))


def _stands_alone(digest: Digest, read: dict[Digest, ManifestDigest]) -> bool:
    """Whether it is a manifest of this image, or an index that leads to one and nowhere else."""
    for _ in range(len(read)):
        manifest = read.get(digest)
        if manifest is None or len(manifest.images) != 1:
            return False
        (only,) = manifest.images
        if only.digest == digest:
            return True
        digest = only.digest
    return False


def _architecture(index: ManifestDigest | None, own: Iterable[Digest]) -> str:
    images = index.images if index else ()
    ours = {image.architecture for image in images if image.digest in own}
    others = {image.architecture for image in images if image.digest not in own}
    if len(ours) != 1 or "" in others or ours & others:
        return ""
    return ours.pop()
