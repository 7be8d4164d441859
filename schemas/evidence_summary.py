"""The evidence of an image to and from the bytes on the topic image-evidence."""

from dataclasses import fields
from typing import Any

from schemas.codec import BadRecordError, Kind, Record, decode, encode
from schemas.values import MAX_TIME_US, image_of, image_record
from vexstream.evidence import Use
from vexstream.evidence_summary import (
    EvidenceSummary,
    EvidenceTotals,
    FileEvidence,
    GrowthPoint,
    PackageEvidence,
    WorkloadEvidence,
)
from vexstream.identity import Workload

_NAMES = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (EvidenceSummary, EvidenceTotals, WorkloadEvidence, Workload, PackageEvidence,
                 FileEvidence, GrowthPoint)
}  # fmt: skip


def encode_evidence(summary: EvidenceSummary) -> bytes:
    """A summary as a message of the topic image-evidence; the same one gives the same bytes."""
    record = {name: _plain(getattr(summary, name)) for name in _NAMES[EvidenceSummary]}
    return encode(Kind.IMAGE_EVIDENCE, {**record, "image": image_record(summary.image)})


def decode_evidence(message: bytes) -> EvidenceSummary:
    """The inverse of ``encode_evidence``.

    Raises:
        CodecError: no such message, or one that contradicts itself.
    """
    wire = decode(Kind.IMAGE_EVIDENCE, message)
    try:
        summary = EvidenceSummary(
            image=image_of(wire["image"]),
            scanned_at_us=wire["scanned_at_us"],
            totals=EvidenceTotals(**wire["totals"]),
            workloads=tuple(_workload(record) for record in wire["workloads"]),
            packages=tuple(_package(record) for record in wire["packages"]),
            growth=tuple(GrowthPoint(**record) for record in wire["growth"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError(str(error)) from error
    _check(summary)
    return summary


def _plain(value: Any) -> Any:
    """As ``dataclasses.asdict``, which copies every text and number: that took most of the time."""
    kind = type(value)
    if kind is tuple:
        return [_plain(item) for item in value]
    names = _NAMES.get(kind)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}


def _workload(record: Record) -> WorkloadEvidence:
    changes = {"workload": Workload(**record["workload"]), "nodes": tuple(record["nodes"])}
    return WorkloadEvidence(**{**record, **changes})


def _package(record: Record) -> PackageEvidence:
    changes = {
        "workloads": tuple(record["workloads"]),
        "examples": tuple(_file(example) for example in record["examples"]),
    }
    return PackageEvidence(**{**record, **changes})


def _file(record: Record) -> FileEvidence:
    if record["use"] < 0:
        raise ValueError(f"{record['use']} is no set of uses")
    changes = {"use": Use(record["use"]), "workloads": tuple(record["workloads"])}
    return FileEvidence(**{**record, **changes})


def _check(summary: EvidenceSummary) -> None:
    files = [file for package in summary.packages for file in package.examples]
    positions = [p for package in summary.packages for p in package.workloads]
    positions += [p for file in files for p in file.workloads]
    if any(not 0 <= position < len(summary.workloads) for position in positions):
        raise BadRecordError("a package or a file names a workload that is not in the record")
    times = [summary.scanned_at_us, summary.totals.first_observed_us]
    times += [summary.totals.last_observed_us, *(point.at_us for point in summary.growth)]
    for workload in summary.workloads:
        times += [workload.since_us, workload.started_at_us, workload.observed_until_us]
    times += [
        t for package in summary.packages for t in (package.first_seen_us, package.last_new_us)
    ]
    times += [t for file in files for t in (file.first_seen_us, file.last_seen_us)]
    for time_us in times:
        if time_us is not None and not 0 <= time_us <= MAX_TIME_US:
            raise BadRecordError(f"{time_us} is no time between 1970 and 9999")
