"""Scans to and from the bytes of the topic image-scan: in chunks that each fit a Kafka record.

Everything that arrives is checked here, once. Every ``decode_*`` raises
``schemas.codec.CodecError`` and nothing else.
"""

import hashlib
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zstandard

from schemas.codec import BadRecordError, Kind, Record, decode, encode
from schemas.values import checked, decompress, image_of, image_record, time_us_of
from vexstream.identity import Digest, parse_digest
from vexstream.scan import (
    FailureReason,
    Finding,
    ManifestDigest,
    Package,
    PlatformImage,
    Scan,
    ScanFailure,
)

CHUNK_BYTES = 512 * 1024
"""Half of Kafka's default record limit (1 MiB)."""

MAX_SCAN_BYTES = 512 * 1024 * 1024
"""A scan that unpacks to more is refused."""


@dataclass(frozen=True, slots=True)
class ScanChunk:
    """One part of a scan on the wire (schemas/image-scan-chunk.avsc)."""

    config_digest: Digest
    scan_id: str
    index: int
    count: int
    body: bytes

    @property
    def key(self) -> bytes:
        """Key of the Kafka record: compaction keeps the newest of each index."""
        return f"{self.config_digest}#{self.index}".encode()


def split_scan(scan: Scan, chunk_bytes: int = CHUNK_BYTES) -> list[ScanChunk]:
    """A scan as chunks that each fit a Kafka record."""
    whole = zstandard.ZstdCompressor(level=10).compress(encode(Kind.IMAGE_SCAN, _scan_record(scan)))
    scan_id = hashlib.sha256(whole).hexdigest()
    bodies = [whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes)]
    return [
        ScanChunk(scan.image.config_digest, scan_id, index, len(bodies), body)
        for index, body in enumerate(bodies)
    ]


def encode_chunk(chunk: ScanChunk) -> bytes:
    """A chunk as a message of the topic image-scan."""
    return encode(
        Kind.IMAGE_SCAN_CHUNK, {name: getattr(chunk, name) for name in ScanChunk.__slots__}
    )


def decode_chunk(message: bytes) -> ScanChunk:
    """The inverse of ``encode_chunk``."""
    return checked(_chunk, decode(Kind.IMAGE_SCAN_CHUNK, message))


def join_scan(chunks: Sequence[ScanChunk]) -> Scan | None:
    """The scan that the chunks hold; None while one of them is missing.

    Chunks may come in any order and more than once; those of an older scan of the same image must
    have been replaced by the caller, as the topic's compaction replaces them (same key).

    Raises:
        CodecError: the chunks are whole and what they hold is no scan.
    """
    newest = {chunk.index: chunk for chunk in chunks}
    head = newest.get(0)
    # The count is what somebody claims: it must not decide how much is allocated.
    if head is None or head.count > len(newest):
        return None
    parts = [newest.get(index) for index in range(head.count)]
    bodies = [part.body for part in parts if part is not None and part.scan_id == head.scan_id]
    if len(bodies) != head.count:
        return None
    whole = b"".join(bodies)
    if hashlib.sha256(whole).hexdigest() != head.scan_id:
        raise BadRecordError(f"the chunks are not those of the scan {head.scan_id[:80]}")
    scan = decode_scan(whole)
    if scan.image.config_digest != head.config_digest:
        raise BadRecordError("the scan is of another image than its chunks say")
    return scan


def decode_scan(compressed: bytes) -> Scan:
    """The scan in a whole compressed body."""
    return checked(_scan, decode(Kind.IMAGE_SCAN, decompress(compressed, MAX_SCAN_BYTES)))


def _chunk(record: Record) -> ScanChunk:
    if not 0 <= record["index"] < record["count"]:
        raise ValueError(f"chunk {record['index']} of {record['count']}")
    return ScanChunk(**{**record, "config_digest": parse_digest(record["config_digest"])})


def _scan_record(scan: Scan) -> Record:
    failure = scan.failure
    carriers = dict.fromkeys(p.perhaps_in for p in scan.packages if p.perhaps_in)
    places = {paths: place for place, paths in enumerate(carriers)}
    return {
        "image": image_record(scan.image),
        "scanned_at_us": scan.scanned_at_us,
        "outcome": "failed" if failure else "complete",
        "failure": {"reason": str(failure.reason), "detail": failure.detail} if failure else None,
        "tools": scan.tools,
        "packages": [_package_record(package, places) for package in scan.packages],
        "carriers": [list(paths) for paths in carriers],
        "findings": [
            {
                "vulnerability": f.vulnerability,
                "aliases": list(f.aliases),
                "package_id": f.package_id,
                "severity": f.severity,
                "fix_state": f.fix_state,
                "fixed_in": list(f.fixed_in),
                "data_source": f.data_source,
                "epss": f.epss,
                "known_exploited": f.known_exploited,
            }
            for f in scan.findings
        ],
        "manifests": [
            {
                "digest": manifest.digest,
                "images": [{"digest": i.digest, "platform": i.platform} for i in manifest.images],
            }
            for manifest in scan.manifests
        ],
        "layers": scan.layers,
    }


def _package_record(package: Package, carriers: Mapping[tuple[bytes, ...], int]) -> Record:
    directories: dict[bytes, list[bytes]] = defaultdict(list)
    for path in package.files:
        if not path.startswith(b"/"):
            raise BadRecordError(f"{package.name} owns {path[:80]!r}, which is not absolute")
        directory, name = posixpath.split(path)
        directories[directory.rstrip(b"/")].append(name)
    return {
        "id": package.id,
        "name": package.name,
        "version": package.version,
        "type": package.type,
        "purl": package.purl,
        "directories": [{"path": path, "names": names} for path, names in directories.items()],
        **_doubt(package, carriers),
    }


def _doubt(package: Package, carriers: Mapping[tuple[bytes, ...], int]) -> Record:
    """Who knows of no carriers takes the package for one that no file access can tell of."""
    if package.unobservable is not None or not package.perhaps_in:
        return {"unobservable": package.unobservable, "perhaps_in": None}
    why = f"{package.perhaps_in[0].decode('utf-8', 'backslashreplace')} may hold a copy of it"
    return {"unobservable": why, "perhaps_in": carriers[package.perhaps_in]}


def _scan(record: Record) -> Scan:
    failure = record["failure"]
    if (record["outcome"] == "failed") != (failure is not None):
        raise ValueError("the outcome of the scan and its failure disagree")
    carriers = [_paths(paths) for paths in record["carriers"]]
    packages = tuple(_package(package, carriers) for package in record["packages"])
    known = {package.id for package in packages}
    if len(known) != len(packages):
        raise ValueError("two packages have the same id")
    strangers = {finding["package_id"] for finding in record["findings"]} - known
    if strangers:
        raise ValueError(f"a finding is of {min(strangers)[:80]!r}, which is no package")
    return Scan(
        image=image_of(record["image"]),
        scanned_at_us=time_us_of(record["scanned_at_us"]),
        tools=record["tools"],
        packages=packages,
        findings=tuple(_finding(finding) for finding in record["findings"]),
        failure=failure and ScanFailure(FailureReason(failure["reason"]), failure["detail"]),
        manifests=tuple(sorted(_manifest(manifest) for manifest in record["manifests"])),
        layers=None if record["layers"] is None else parse_digest(record["layers"]),
    )


def _manifest(record: Record) -> ManifestDigest:
    images = {PlatformImage(parse_digest(i["digest"]), i["platform"]) for i in record["images"]}
    return ManifestDigest(parse_digest(record["digest"]), tuple(sorted(images)))


def _package(record: Record, carriers: Sequence[tuple[bytes, ...]]) -> Package:
    place = record["perhaps_in"]
    if place is not None and not 0 <= place < len(carriers):
        raise ValueError(f"the scan has no carriers {place}")
    return Package(
        id=record["id"],
        name=record["name"],
        version=record["version"],
        type=record["type"],
        purl=record["purl"],
        files=tuple(file for directory in record["directories"] for file in _files(directory)),
        unobservable=record["unobservable"] if place is None else None,
        perhaps_in=() if place is None else carriers[place],
    )


def _paths(paths: Sequence[bytes]) -> tuple[bytes, ...]:
    # A file under a wrong path is never seen in use, and what it holds would pass for unused.
    if not paths or not all(path.startswith(b"/") for path in paths):
        raise ValueError("carriers without absolute paths")
    return tuple(paths)


def _files(directory: Record) -> list[bytes]:
    # A file under a wrong path is never seen in use, and its package would pass for unused.
    path, names = directory["path"], directory["names"]
    if path and (not path.startswith(b"/") or path.endswith(b"/")):
        raise ValueError(f"{path[:80]!r} is no canonical directory")
    for name in names:
        if not name or b"/" in name:
            raise ValueError(f"{name[:80]!r} is no file name")
    return [path + b"/" + name for name in names]


def _finding(record: Record) -> Finding:
    return Finding(
        vulnerability=record["vulnerability"],
        package_id=record["package_id"],
        aliases=tuple(record["aliases"]),
        severity=record["severity"],
        fix_state=record["fix_state"],
        fixed_in=tuple(record["fixed_in"]),
        data_source=record["data_source"],
        epss=record["epss"],
        known_exploited=record["known_exploited"],
    )
