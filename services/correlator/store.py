"""How the state of a digest lies in changelogged tables: small values, only what is new.

Three tables, all keyed so that every entry of a digest is on the digest's partition:

- evidence: ``f|<digest>|<hash>`` -> the files of one batch of which something was new, or many
  such entries made one; ``c|<digest>|<container>`` -> what is known of one container's
  observation; ``u|...`` -> marks of unreadable records (marks.py); ``t|<partition>|<topic>`` ->
  the id of a source topic (beginnings.py); ``s|<digest>|`` -> what is known of scans that do not
  hold (assembly.py), which an older release leaves aside; so it does ``m|<digest>|`` -> by which
  manifests the scan that holds has found the image, ``l|<digest>|`` -> which layers it has, and
  ``n|...`` -> nameless containers (remembered.py);
- scans: ``<digest>#<scan>#<index>`` -> a chunk of a scan, as it was on the wire, and
  ``<digest>#`` -> which scan holds, and how many chunks it has;
- published: ``<digest>`` -> version and digests of what was last published.

Entries of files are grow-only and merge in any order, so a redelivered batch is harmless.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import zstandard

from schemas.values import image_of, image_record
from vexstream.correlation import Correlation, Published
from vexstream.evidence import Evidence, FileUse, Learnt
from vexstream.identity import Digest, Image, Workload, parse_digest
from vexstream.observation import Container, Open, Span
from vexstream.products import confirmed
from vexstream.scan import Scan

FILES_PER_ENTRY = 4000
BYTES_PER_ENTRY = 500_000
"""Of paths, so that an entry fits a Kafka record even if they do not compress: who builds an image
chooses their names, and an entry that is refused stops all images of its partition."""
ENTRIES_PER_DIGEST = 16
"""More entries of files than these, and than twice those that the last time were left, are made as
few as they can be, when the files are in memory anyway."""

_COMPRESSOR = zstandard.ZstdCompressor(level=1)
_DECOMPRESSOR = zstandard.ZstdDecompressor()


class EntryGoneError(Exception):
    """A table does not have what was written to it: only a new start brings it back."""


@dataclass(slots=True)
class Held:
    """What the tables hold of a digest."""

    files: list[bytes] = field(default_factory=list)
    """Keys of the entries of files."""
    fewest: int = 0
    """How many these were when they were last made few; 0 after a restart."""
    scan_id: str = ""
    chunks: int = 0
    beside: set[str] = field(default_factory=set)
    """Scans that were on their way while that one was: the order of chunks does not tell which of
    them is newer."""
    dropped: bool = False
    """Of a scan that may be newer too many others have taken the place."""
    dropped_at: int = 0
    """How many scans had begun by then (assembly.py)."""
    past: list[str] = field(default_factory=list)
    """The last scans that were whole and do not hold: what comes of them again is nothing new."""
    noted: bool = False
    """There is an entry of all that."""
    manifests: tuple[Digest, ...] = ()
    """By which the scan that holds has found the image."""
    layers: Digest | None = None
    """Those of the image, as a scan has read them."""


def required(table: Any, key: bytes) -> bytes:
    """What was written to a table.

    Raises:
        EntryGoneError: to go on would be to take files for unused, or a document for right.
    """
    value: bytes | None = table.get(key)
    if value is None:
        raise EntryGoneError(f"a table does not have {key!r} any more")
    return value


def delete(table: Any, keys: Iterable[bytes]) -> None:
    """Takes entries away, in one order."""
    for key in sorted(keys):
        table.pop(key, None)


def digest_of(key: bytes) -> bytes:
    """The digest that a key of the table evidence begins with."""
    return key.split(b"|", 2)[1]


def container_key(digest: Digest, container: str) -> bytes:
    """The key of a container's observation."""
    return f"c|{digest}|{container}".encode()


def files_entries(
    digest: Digest, files: Iterable[tuple[bytes, FileUse]]
) -> Iterator[tuple[bytes, bytes]]:
    """The files as entries, as many as it takes. The key is of the content: an entry never takes
    the place of one that says something else."""
    for chunk in _fitting(files):
        value = pack_files(chunk)
        seal = hashlib.blake2b(value, digest_size=16).hexdigest()
        yield f"f|{digest}|{seal}".encode(), value


def _fitting(files: Iterable[tuple[bytes, FileUse]]) -> Iterator[list[tuple[bytes, FileUse]]]:
    chunk: list[tuple[bytes, FileUse]] = []
    size = 0
    for path, use in files:
        size += len(path)
        if chunk and (len(chunk) == FILES_PER_ENTRY or size > BYTES_PER_ENTRY):
            yield chunk
            chunk, size = [], len(path)
        chunk.append((path, use))
    if chunk:
        yield chunk


def learnt_files(correlation: Correlation, learnt: Learnt) -> Iterator[tuple[bytes, bytes]]:
    """The entries that hold what a batch has added to the files."""
    if learnt.accesses and correlation.evidence is not None:
        known = correlation.evidence.files
        files = [(path, known[path]) for path, _ in learnt.accesses]
        yield from files_entries(correlation.digest, files)


def pack_files(files: Iterable[tuple[bytes, FileUse]]) -> bytes:
    """Paths grouped by what is known of them: most of a batch share it. No path has a NUL."""
    groups: dict[FileUse, list[bytes]] = {}
    # By runs: neighbours share one object, and to hash it for every file would be slow.
    for use, run in groupby(files, itemgetter(1)):
        groups.setdefault(use, []).extend([path for path, _ in run])
    workloads = sorted({w for use in groups for w in use.workloads})
    position = {workload: at for at, workload in enumerate(workloads)}
    head = {
        "workloads": [[w.namespace, w.name, w.container] for w in workloads],
        "groups": [
            [use.use, use.first_seen_us, [position[w] for w in use.workloads], len(paths)]
            for use, paths in groups.items()
        ],
        "last_hours": [use.last_hour for use in groups],
    }
    body = b"\0".join(path for paths in groups.values() for path in paths)
    return _COMPRESSOR.compress(json.dumps(head).encode() + b"\n" + body)


def unpack_files(value: bytes) -> Iterator[tuple[bytes, FileUse]]:
    """The inverse of ``pack_files``."""
    head, _, body = _DECOMPRESSOR.decompress(value).partition(b"\n")
    about = json.loads(head)
    workloads = [Workload(*names) for names in about["workloads"]]
    paths = iter(body.split(b"\0"))
    groups = about["groups"]
    hours = about.get("last_hours", [0] * len(groups))  # entries of earlier releases have none
    for (use, first, positions, count), hour in zip(groups, hours, strict=True):
        shared = FileUse(use, first, tuple(workloads[at] for at in positions), hour)
        for path in islice(paths, count):
            yield path, shared


def container_bytes(container: Container, image: Image) -> bytes:
    """A container's observation, and the names of its image, which several entries repeat."""
    workload = container.workload
    return json.dumps(
        {
            "node": container.node,
            "workload": [workload.namespace, workload.name, workload.container],
            "started_at_us": container.started_at_us,
            "learning_period_us": container.learning_period_us,
            "seen_us": [container.first_seen_us, container.last_seen_us],
            # Apart, as an older release reads only the times.
            "clean": [[start, end] for start, end, _ in container.clean],
            "runs": [run for _, _, run in container.clean],
            "lossy": [[*at, count, why] for at, (count, why) in sorted(container.lossy.items())],
            "open": [
                [*at, sorted(waiting.seen), waiting.end, waiting.parts]
                for at, waiting in sorted(container.open.items())
            ],
            "ended": container.ended,
            "image": image_record(image),
            "layers": image.layers,
            "other_than": image.other_than,
        }
    ).encode()


def restore_container(correlation: Correlation, identifier: str, value: bytes) -> None:
    """Puts back what an entry holds of a container."""
    container, image = container_of(value)
    if correlation.evidence is None:
        correlation.evidence = Evidence(image)
    correlation.evidence.image = correlation.evidence.image.merged(image)
    correlation.evidence.containers[identifier] = container


def container_of(value: bytes) -> tuple[Container, Image]:
    """The inverse of ``container_bytes``."""
    held = json.loads(value)
    first, last = held["seen_us"]
    container = Container(
        held["node"],
        Workload(*held["workload"]),
        held["started_at_us"],
        held["learning_period_us"],
        first,
        last,
        clean=list(_spans(held)),
        lossy={(a, b): (count, tuple(why)) for a, b, count, why in held["lossy"]},
        open={(a, run): Open(frozenset(seen), b, n) for a, run, seen, b, n in held["open"]},
        ended=tuple(held["ended"]) if held.get("ended") else None,
    )
    image = image_of(held["image"])
    image = replace(image, layers=held.get("layers"), other_than=held.get("other_than"))
    return container, image


def _spans(held: Mapping[str, Any]) -> Iterator[Span]:
    clean = held["clean"]
    # Entries of an older release have none.
    runs = held.get("runs", [""] * len(clean))
    for (start, end), run in zip(clean, runs, strict=True):
        yield start, end, run


def published_bytes(published: Published) -> bytes:
    """A value of the table published."""
    return json.dumps(astuple(published)).encode()


def published_of(value: bytes) -> Published:
    """The inverse of ``published_bytes``; a newer release may have appended to it."""
    return Published(*json.loads(value)[: len(fields(Published))])


def chunk_keys(digest: Digest, scan_id: str, count: int) -> list[bytes]:
    """The keys of all chunks of a scan."""
    return [chunk_name(digest, scan_id, index) for index in range(count)]


def others_key(digest: Digest) -> bytes:
    """The key of what is known of scans that do not hold."""
    return f"s|{digest}|".encode()


def others_bytes(held: Held) -> bytes | None:
    """Its value; None where nothing is."""
    if not held.beside and not held.dropped and not held.past:
        return None
    told = {"beside": sorted(held.beside), "dropped": held.dropped, "past": held.past}
    return json.dumps(told).encode()


def read_entries(digest: Digest, held: Held, scan: Scan) -> dict[bytes, bytes]:
    """Takes note of by which manifests a scan has found the image, and which layers it has; the
    entries of what is new."""
    entries = {}
    found = confirmed(scan.image, scan.manifests).manifest_digests
    if found != held.manifests:
        held.manifests = found
        entries[f"m|{digest}|".encode()] = json.dumps(found).encode()
    if scan.layers is not None and scan.layers != held.layers:
        held.layers = scan.layers
        entries[f"l|{digest}|".encode()] = json.dumps(scan.layers).encode()
    return entries


def restore_known(held: Held, key: bytes, value: bytes) -> None:
    """The inverse of ``others_bytes`` and ``read_entries``."""
    told = json.loads(value)
    if key.startswith(b"l|"):
        held.layers = parse_digest(told)
        return
    if key.startswith(b"m|"):
        held.manifests = tuple(parse_digest(one) for one in told)
        return
    held.beside, held.dropped, held.past = set(told["beside"]), told["dropped"], told["past"]
    held.noted = True


def chunk_name(digest: Digest, scan_id: str, index: int) -> bytes:
    """The key of a chunk: chunks of different scans do not replace each other."""
    return f"{digest}#{scan_id}#{index}".encode()


def pointer_key(digest: Digest) -> bytes:
    """The key that says which scan of a digest holds."""
    return f"{digest}#".encode()
