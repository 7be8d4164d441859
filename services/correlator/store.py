"""How the state of a digest lies in changelogged tables: small values, only what is new.

Three tables, all keyed so that every entry of a digest is on the digest's partition:

- evidence: ``f|<digest>|<run>|<container>|<sequence>`` -> the accesses of one batch that were new,
  and ``c|<digest>|<container>`` -> what is known of one container's observation;
- scans: ``<digest>#<index>`` -> a chunk of the newest scan, as it was on the wire;
- published: ``<digest>`` -> version and digests of what was last published.

Entries of the first kind are grow-only and merge in any order, so a redelivered batch is harmless.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from schemas.messages import (
    ScanChunk,
    decode_batch,
    decode_chunk,
    encode_batch,
    image_of,
    image_record,
    join_scan,
)
from vexstream.correlation import Correlation, Published
from vexstream.evidence import Batch, Container, Evidence, Learnt
from vexstream.identity import Digest, Image, Workload, parse_digest


def evidence_entries(
    correlation: Correlation, batch: Batch, learnt: Learnt
) -> Iterable[tuple[bytes, bytes]]:
    """The table entries that hold what a batch has added."""
    digest = correlation.digest
    if learnt.accesses:
        key = f"f|{digest}|{batch.run}|{batch.container_id}|{batch.sequence}"
        yield key.encode(), encode_batch(replace(batch, accesses=learnt.accesses))
    if (learnt.container or learnt.image) and correlation.evidence is not None:
        container = correlation.evidence.containers[batch.container_id]
        key = f"c|{digest}|{batch.container_id}"
        yield key.encode(), _container_bytes(container, correlation.evidence.image)


def published_bytes(published: Published) -> bytes:
    """A value of the table published."""
    return json.dumps([published.version, published.sha256, published.fingerprint]).encode()


class ScanAssembly:
    """Chunks of scans on their way in, by digest."""

    def __init__(self) -> None:
        self.chunks: dict[Digest, dict[int, ScanChunk]] = {}

    def add(self, chunk: ScanChunk) -> list[ScanChunk]:
        """Takes a chunk; returns all that are held of its digest, the newest of each index."""
        held = self.chunks.setdefault(chunk.config_digest, {})
        held[chunk.index] = chunk
        return list(held.values())

    def done(self, digest: Digest) -> None:
        """Forgets the chunks of a digest whose scan was whole."""
        self.chunks.pop(digest, None)


def rebuild(
    evidence: Mapping[bytes, bytes],
    scans: Mapping[bytes, bytes],
    published: Mapping[bytes, bytes],
) -> tuple[dict[Digest, Correlation], ScanAssembly]:
    """The state of every digest out of the tables, and the scans that are not whole yet."""
    correlations: dict[Digest, Correlation] = {}
    for key, value in evidence.items():
        digest = parse_digest(key.split(b"|", 2)[1].decode())
        correlation = correlations.setdefault(digest, Correlation(digest))
        if key.startswith(b"f|"):
            correlation.observe(decode_batch(value))
        else:
            _restore_container(correlation, key.split(b"|", 2)[2].decode(), value)
    assembly = ScanAssembly()
    for value in scans.values():
        assembly.add(decode_chunk(value))
    for digest, chunks in list(assembly.chunks.items()):
        scan = join_scan(list(chunks.values()))
        if scan is not None:
            correlations.setdefault(digest, Correlation(digest)).accept(scan)
            assembly.done(digest)
    for key, value in published.items():
        digest = parse_digest(key.decode())
        correlation = correlations.setdefault(digest, Correlation(digest))
        correlation.published = Published(*json.loads(value))
    return correlations, assembly


def _container_bytes(container: Container, image: Image) -> bytes:
    workload = container.workload
    return json.dumps(
        {
            "node": container.node,
            "workload": [workload.namespace, workload.name, workload.container],
            "started_at_us": container.started_at_us,
            "clean": container.clean,
            "lossy": [[*at, count, why] for at, (count, why) in sorted(container.lossy.items())],
            "image": image_record(image),
        }
    ).encode()


def _restore_container(correlation: Correlation, identifier: str, value: bytes) -> None:
    """Replaces what batches said of the container: this entry knows all of them."""
    held = json.loads(value)
    image = image_of(held["image"])
    if correlation.evidence is None:
        correlation.evidence = Evidence(image)
    correlation.evidence.image = correlation.evidence.image.merged(image)
    container = Container(held["node"], Workload(*held["workload"]), held["started_at_us"])
    container.clean = [(start, end) for start, end in held["clean"]]
    container.lossy = {(a, b): (count, tuple(why)) for a, b, count, why in held["lossy"]}
    correlation.evidence.containers[identifier] = container
