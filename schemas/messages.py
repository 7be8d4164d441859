"""Typed data of the core to and from the bytes on the wire.

Everything that arrives is checked here, once: digests are digests, paths absolute, times ordered.
Every ``decode_*`` raises ``schemas.codec.CodecError`` and nothing else.
"""

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import zstandard

from schemas import access_batches
from schemas.codec import BadRecordError, Kind, Record, decode, encode
from vexstream.evidence import Access, Batch, Use
from vexstream.identity import (
    MAX_ALIAS,
    Digest,
    Image,
    Workload,
    first_aliases,
    parse_digest,
)
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
MAX_TIME_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999: there are no later times for those who show them."""

_READ_BYTES = 1024 * 1024

_MAX_NAME, _MAX_CONTAINER_ID, _MAX_RUN = 1024, 8192, 40
"""Characters. An image that is mounted has its path in the container's id."""
_MAX_REASONS, _REASON = 64, re.compile(r"[a-z0-9_]{0,32}")

_USES = {bits: Use(bits) for bits in range(int(~Use(0)) + 1)}
"""To look one up is much faster than to make it, and there is one an access."""

RESCAN = "rescan"
"""In place of the runtime in a sighting that nobody made: scan, although there may be a scan."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """A collector saw a container of this image (schemas/image-seen.avsc)."""

    image: Image
    node: str
    runtime: str
    seen_at_us: int


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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used (schemas/dead-letter.avsc)."""

    service: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    failed_at_us: int
    topic_id: str = ""
    """Kafka's id of the topic; empty where it is not known."""
    cut: bool = False
    """Not all of the key and value is here."""


def encode_batch(batch: Batch) -> bytes:
    """A batch of file accesses as a message of the topic file-access."""
    return encode(
        Kind.FILE_ACCESS,
        {
            "node": batch.node,
            "run": batch.run,
            "sequence": batch.sequence,
            "container_id": batch.container_id,
            "workload": {
                "namespace": batch.workload.namespace,
                "name": batch.workload.name,
                "container": batch.workload.container,
            },
            "image": image_record(batch.image),
            "started_at_us": batch.started_at_us,
            "observed_from_us": batch.observed_from_us,
            "observed_to_us": batch.observed_to_us,
            "lost": batch.lost,
            "loss_reasons": list(batch.loss_reasons),
            "accesses": [{"path": a.path, "use": int(a.use)} for a in batch.accesses],
            "learning_period_us": batch.learning_period_us,
            "parts": batch.parts,
            "exit_code": batch.exit_code,
            "layers": batch.image.layers,
        },
    )


def decode_batch(message: bytes) -> Batch:
    """The inverse of ``encode_batch``."""
    quick = access_batches.read(message)
    if quick is not None:
        record, accesses = quick
        return _checked(lambda rest: _batch(rest, accesses), record)
    return _checked(
        lambda record: _batch(record, tuple([_access(access) for access in record["accesses"]])),
        decode(Kind.FILE_ACCESS, message),
    )


def encode_image_seen(seen: ImageSeen) -> bytes:
    """A sighting as a message of the topic image-seen."""
    return encode(
        Kind.IMAGE_SEEN,
        {
            "image": image_record(seen.image),
            "node": seen.node,
            "runtime": seen.runtime,
            "seen_at_us": seen.seen_at_us,
        },
    )


def decode_image_seen(message: bytes) -> ImageSeen:
    """The inverse of ``encode_image_seen``."""
    return _checked(
        lambda r: ImageSeen(image_of(r["image"]), r["node"], r["runtime"], _time(r["seen_at_us"])),
        decode(Kind.IMAGE_SEEN, message),
    )


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter as a message of the topic dead-letter."""
    return encode(Kind.DEAD_LETTER, {name: getattr(letter, name) for name in DeadLetter.__slots__})


def decode_dead_letter(message: bytes) -> DeadLetter:
    """The inverse of ``encode_dead_letter``."""
    return _checked(lambda r: DeadLetter(**r), decode(Kind.DEAD_LETTER, message))


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
    return _checked(_chunk, decode(Kind.IMAGE_SCAN_CHUNK, message))


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
    return _checked(_scan, decode(Kind.IMAGE_SCAN, decompress(compressed, MAX_SCAN_BYTES)))


def decompress(body: bytes, limit_bytes: int) -> bytes:
    """Unpacks zstd without ever growing past the limit.

    Raises:
        BadRecordError: no zstd frame, or larger than the limit.
    """
    plain = bytearray()
    try:
        # In pieces: the reader allocates at once as much as it is asked for.
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            while piece := reader.read(_READ_BYTES):
                plain += piece
                if len(plain) > limit_bytes:
                    raise BadRecordError(f"the body unpacks to more than {limit_bytes} bytes")
    except zstandard.ZstdError as error:
        raise BadRecordError(f"corrupt zstd frame: {error}") from error
    return bytes(plain)


def image_record(image: Image) -> Record:
    """An image as the nested record that several schemas share."""
    return {
        "config_digest": image.config_digest,
        "manifest_digests": list(image.manifest_digests),
        "names": list(image.names),
    }


def image_of(record: Record) -> Image:
    """The inverse of ``image_record``; raises BadDigestError."""
    if any(len(name) > MAX_ALIAS for name in record["names"]):
        raise ValueError(f"a name of the image is longer than {MAX_ALIAS} characters")
    return Image(
        parse_digest(record["config_digest"]),
        first_aliases(map(parse_digest, record["manifest_digests"])),
        first_aliases(record["names"]),
    )


def _checked(build: Callable[[Record], T], record: Record) -> T:
    try:
        return build(record)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError(str(error)) from error


def _time(time_us: int) -> int:
    if not 0 <= time_us <= MAX_TIME_US:
        raise ValueError(f"{time_us} is no time between 1970 and 9999")
    return time_us


def _batch(record: Record, accesses: tuple[Access, ...]) -> Batch:
    if record["observed_from_us"] > record["observed_to_us"]:
        raise ValueError("the observation interval ends before it begins")
    if min(record["lost"], record["sequence"], record["parts"]) < 0:
        raise ValueError("lost, sequence and parts cannot be negative")
    _require_short(record)
    period = record["learning_period_us"]
    if period is not None and not 0 < period <= MAX_TIME_US:
        raise ValueError(f"{period} us is no learning period")
    return Batch(
        node=record["node"],
        run=record["run"],
        sequence=record["sequence"],
        container_id=record["container_id"],
        workload=Workload(**record["workload"]),
        image=_standing_on(record["layers"], image_of(record["image"])),
        started_at_us=_time(record["started_at_us"]),
        observed_from_us=_time(record["observed_from_us"]),
        observed_to_us=_time(record["observed_to_us"]),
        lost=record["lost"],
        loss_reasons=tuple(record["loss_reasons"]),
        accesses=accesses,
        learning_period_us=period,
        parts=record["parts"],
        exit_code=record["exit_code"],
    )


def _require_short(record: Record) -> None:
    """What is written down of a container has to fit a record."""
    names = (record["node"], *record["workload"].values())
    if max(map(len, names)) > _MAX_NAME or len(record["container_id"]) > _MAX_CONTAINER_ID:
        raise ValueError("a name of the container, its node or its workload is too long")
    if len(record["run"]) > _MAX_RUN:
        raise ValueError("the run is no identifier")
    reasons = record["loss_reasons"]
    if len(reasons) > _MAX_REASONS or any(not _REASON.fullmatch(reason) for reason in reasons):
        raise ValueError("the reasons of a loss are none")


def _standing_on(layers: str | None, image: Image) -> Image:
    return image if layers is None else replace(image, layers=parse_digest(layers))


def _access(record: Record) -> Access:
    path = record["path"]
    if not path.startswith(b"/"):
        raise ValueError(f"the path {path[:80]!r} is not absolute")
    if b"\0" in path:  # the state keeps paths apart by it
        raise ValueError(f"the path {path[:80]!r} has a NUL, which no file's has")
    use = _USES.get(record["use"])
    return Access(path, _use(record["use"]) if use is None else use)


def _use(bits: int) -> Use:
    if bits < 0:
        raise ValueError(f"{bits} is no set of uses")
    return Use(bits)


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
        scanned_at_us=_time(record["scanned_at_us"]),
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
