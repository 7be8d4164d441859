"""Batches of file accesses to and from the bytes of the topic file-access.

Everything that arrives is checked here, once: digests are digests, paths absolute, times ordered.
``decode_batch`` raises ``schemas.codec.CodecError`` and nothing else.
"""

import re
from dataclasses import replace

from schemas import access_batches
from schemas.codec import Kind, Record, decode, encode
from schemas.values import MAX_TIME_US, checked, image_of, image_record, time_us_of
from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Image, Workload, parse_digest

_MAX_NAME, _MAX_CONTAINER_ID, _MAX_RUN = 1024, 8192, 40
"""Characters. An image that is mounted has its path in the container's id."""

_MAX_REASONS, _REASON = 64, re.compile(r"[a-z0-9_]{0,32}")

_USES = {bits: Use(bits) for bits in range(int(~Use(0)) + 1)}
"""To look one up is much faster than to make it, and there is one an access."""


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
            "other_than": batch.image.other_than,
        },
    )


def decode_batch(message: bytes) -> Batch:
    """The inverse of ``encode_batch``."""
    quick = access_batches.read(message)
    if quick is not None:
        record, accesses = quick
        return checked(lambda rest: _batch(rest, accesses), record)
    return checked(
        lambda record: _batch(record, tuple([_access(access) for access in record["accesses"]])),
        decode(Kind.FILE_ACCESS, message),
    )


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
        image=_perhaps(record, image_of(record["image"])),
        started_at_us=time_us_of(record["started_at_us"]),
        observed_from_us=time_us_of(record["observed_from_us"]),
        observed_to_us=time_us_of(record["observed_to_us"]),
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


def _perhaps(record: Record, image: Image) -> Image:
    """With what tells which image it may be, where nobody can name it."""
    layers, other_than = record["layers"], record["other_than"]
    if layers is None and other_than is None:
        return image
    return replace(
        image,
        layers=None if layers is None else parse_digest(layers),
        other_than=None if other_than is None else parse_digest(other_than),
    )


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
