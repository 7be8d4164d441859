"""Syft's JSON document -> artifacts with the paths that each claims.

Reads what Syft 1.x writes (schema 16; Syft 1.57 has 16.1.13). Only what the mapping of files needs
is kept. Paths stay as Syft spells them: text, in which a byte that is not UTF-8 has become U+FFFD.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

from vexstream.distribution import foreign
from vexstream.fields import Fields

_SCHEMA = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_OLDEST_SCHEMA = 16
"""Syft 1.0 and later."""
_MAKERS = {"deb": "maintainer", "rpm": "vendor", "apk": "gitCommitOfApkPort", "alpm": "validation"}
_OF_FILE = re.compile(r"-[^-]+-[^-]+\.(?:no)?src\.rpm\Z")
_SITES = ("homeURL", "supportURL", "bugReportURL")


class SbomError(ValueError):
    """The document is no Syft JSON document that is understood here."""


_FIELDS = Fields("of the SBOM", SbomError)
_text, _mapping, _list = _FIELDS.text, _FIELDS.mapping, _FIELDS.items


@dataclass(frozen=True, slots=True)
class Artifact:
    """A package as Syft found it."""

    id: str
    name: str
    version: str
    type: str
    purl: str
    metadata_type: str = ""
    locations: tuple[str, ...] = ()
    """Where the evidence for the package is: the primary ones first. A file with several names
    (symlinks, hard links) is there by its real one, and after it by the one that Syft looked up."""
    files: tuple[str, ...] = ()
    """The list of files in the package's own metadata."""
    site_packages: str = ""
    """Python: what the list of files is relative to."""
    top_level: tuple[str, ...] = ()
    """Python: modules and packages that it installs."""
    architecture: str = ""
    """deb: as dpkg names its files by it."""
    source: str = ""
    """Operating systems: what the package was built from, with others perhaps."""
    within: str = ""
    """Java: where in the archive it was found, as ``WEB-INF/lib/a.jar:org.acme:b``."""
    published: bool = False
    """Java: Maven has left its coordinates."""
    unpublished: bool = False
    """npm: no client publishes it. Composer, R: from a directory or a repository and no
    index."""
    maker: str | None = None
    """Operating systems: by what ``vexstream/distribution.py`` tells who built it; "" when nobody
    says so, None when it is not known whether."""
    foreign: bool = False
    """Operating systems: somebody else than the distribution built it."""


@dataclass(frozen=True, slots=True)
class Sbom:
    """What Syft says of an image."""

    syft_version: str
    schema_version: str
    distro: str
    artifacts: tuple[Artifact, ...] = field(default=())


def parse(document: bytes) -> Sbom:
    """Reads a document of ``syft -o json``.

    Raises:
        SbomError: it is none, or of a schema older than Syft 1.0.
    """
    try:
        whole = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise SbomError(f"the SBOM is no JSON: {error}") from error
    if not isinstance(whole, dict) or "artifacts" not in whole or "descriptor" not in whole:
        raise SbomError("the SBOM is no Syft JSON: make it with `syft <image> -o json`")
    descriptor = _mapping(whole, "descriptor")
    distro = _mapping(whole, "distro")
    sites = [_word(distro.get(name)) for name in _SITES]
    artifacts = _with_origin([_artifact(one) for one in _list(whole, "artifacts")], sites)
    if len({artifact.id for artifact in artifacts}) != len(artifacts):
        raise SbomError("two artifacts of the SBOM have one id")
    return Sbom(
        syft_version=_text(descriptor, "version"),
        schema_version=_checked_schema(_text(_mapping(whole, "schema"), "version")),
        distro=" ".join(filter(None, (_text(distro, "id"), _text(distro, "versionID")))),
        artifacts=artifacts,
    )


def _checked_schema(version: str) -> str:
    match = _SCHEMA.match(version)
    if match is None or int(match[1]) < _OLDEST_SCHEMA:
        raise SbomError(f"the SBOM has schema {version!r}: use Syft 1.0 or later")
    return version


def _artifact(record: Any) -> Artifact:
    if not isinstance(record, dict):
        raise SbomError("an artifact of the SBOM is no object")
    metadata = _mapping(record, "metadata")
    found = Artifact(
        id=_text(record, "id"),
        name=_text(record, "name"),
        version=_text(record, "version"),
        type=_text(record, "type") or "unknown",
        purl=_text(record, "purl"),
        metadata_type=_text(record, "metadataType"),
        locations=_locations(_list(record, "locations")),
        files=tuple(_paths(metadata.get("files"))),
        site_packages=_word(metadata.get("sitePackagesRootPath")),
        top_level=tuple(_paths(metadata.get("topLevelPackages"))),
        architecture=_word(metadata.get("architecture")),
        source=_source(record, metadata),
        within=_word(metadata.get("virtualPath")).partition(":")[2],
        published=isinstance(metadata.get("pomProperties"), dict),
        unpublished=_is_unpublished(_text(record, "type"), metadata),
        maker=_maker(_text(record, "type"), metadata),
    )
    if not found.id:
        raise SbomError(f"an artifact of the SBOM has no id: {found.name!r}")
    return found


def _is_unpublished(kind: str, metadata: Mapping[str, Any]) -> bool:
    if kind == "php-composer":
        source, archive = (metadata.get(name) for name in ("source", "dist"))
        if isinstance(archive, dict) and archive.get("type") == "path":
            return True
        from_sources = isinstance(source, dict) and bool(source.get("type"))
        return from_sources and not metadata.get("notification-url")  # as indexes give
    if kind == "R-package":
        return bool(metadata) and not metadata.get("repository")
    return kind == "npm" and metadata.get("private") is True


def _maker(kind: str, metadata: Mapping[str, Any]) -> str | None:
    name = _MAKERS.get(kind, "")
    return _word(metadata[name]) if name in metadata else None


def _with_origin(artifacts: Sequence[Artifact], sites: Sequence[str]) -> tuple[Artifact, ...]:
    """The artifacts, those marked that the distribution did not build."""
    others: set[str] = set()
    for kind in _MAKERS:
        ones = [artifact for artifact in artifacts if artifact.type == kind]
        marks = foreign(kind, [artifact.maker for artifact in ones], sites)
        others.update(artifact.id for artifact in compress(ones, marks))
    return tuple(replace(one, foreign=True) if one.id in others else one for one in artifacts)


def _source(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """A package that is named as its source has no other name there; rpm's is that of a file, with
    the version, which those of one source need not share."""
    names = ("source", "originPackage", "sourceRpm", "basepackage")
    found = next(filter(None, (_word(metadata.get(name)) for name in names)), "")
    return _OF_FILE.sub("", found) or _text(record, "name")


def _locations(records: list[Any]) -> tuple[str, ...]:
    primary: list[str] = []
    others: list[str] = []
    for record in records:
        if not isinstance(record, dict) or not _text(record, "path"):
            raise SbomError("a location of the SBOM has no path")
        evidence = _text(_mapping(record, "annotations"), "evidence")
        paths = filter(None, (_text(record, "path"), _text(record, "accessPath")))
        (primary if evidence == "primary" else others).extend(paths)
    return tuple(dict.fromkeys(primary + others))


def _paths(records: Any) -> Iterator[str]:
    """A list of files has objects with a path in some ecosystems and bare paths in others.

    Lock files have lists of archives there: those have no path and are not of interest.
    """
    for record in records if isinstance(records, list) else []:
        path = record.get("path") if isinstance(record, dict) else record
        if isinstance(path, str):
            yield path


def _word(value: Any) -> str:
    """A field of metadata, whose type depends on the ecosystem."""
    return value if isinstance(value, str) else ""
