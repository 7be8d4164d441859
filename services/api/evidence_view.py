"""The evidence of an image as JSON for people and tools. Pure; the same summary, the same bytes."""

import json
from typing import Any

from vexstream.evidence import Use
from vexstream.evidence_summary import (
    EvidenceSummary,
    FileEvidence,
    PackageEvidence,
    WorkloadEvidence,
)
from vexstream.times import instant

_USES = {
    Use.OPENED: "opened",
    Use.EXECUTED: "executed",
    Use.MAPPED: "mapped_executable",
    Use.SEEDED: "seeded",
    Use.REWRITTEN: "rewritten",
}


def render(summary: EvidenceSummary) -> bytes:
    """The whole answer of GET /vex/{digest}/evidence."""
    totals = summary.totals
    view = {
        "config_digest": summary.image.config_digest,
        "scanned_at": _instant(summary.scanned_at_us),
        "totals": {
            "files": totals.files,
            "unowned_files": totals.unowned_files,
            "packages": totals.packages,
            "packages_used": totals.packages_used,
            "workloads": totals.workloads,
            "containers": totals.containers,
            "nodes": totals.nodes,
            "lost_events": totals.lost,
            "first_observed_at": _instant(totals.first_observed_us),
            "last_observed_at": _instant(totals.last_observed_us),
        },
        "workloads": [_workload(workload) for workload in summary.workloads],
        "packages": [_package(package, summary) for package in summary.packages],
        "growth": [{"at": instant(p.at_us), "files": p.files} for p in summary.growth],
    }
    return json.dumps(view, ensure_ascii=False, separators=(",", ":")).encode()


def _workload(workload: WorkloadEvidence) -> dict[str, Any]:
    return {
        "workload": str(workload.workload),
        "namespace": workload.workload.namespace,
        "state": workload.state,
        "reason": workload.reason,
        "learning_seconds": workload.learning_period_us / 1_000_000,
        "covered_since": _instant(workload.since_us),
        "learning_started_at": instant(workload.started_at_us),
        "learning_due_at": instant(workload.due_us),
        "observed_until": instant(workload.observed_until_us),
        "containers": workload.containers,
        "containers_seen_whole": workload.containers_seen_whole,
        "nodes": list(workload.nodes),
        "node_count": workload.node_count,
        "files": workload.files,
        "lost_events": workload.lost,
    }


def _package(package: PackageEvidence, summary: EvidenceSummary) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "type": package.type,
        "purl": package.purl,
        "files_used": package.files_used,
        "files_observable": package.files_observable,
        "first_seen_at": instant(package.first_seen_us),
        "last_new_at": instant(package.last_new_us),
        "workloads": _names(package.workloads, summary),
        "examples": [_file(example, summary) for example in package.examples],
    }


def _file(file: FileEvidence, summary: EvidenceSummary) -> dict[str, Any]:
    return {
        # A name may be any bytes: those that are no UTF-8 are shown as \xNN.
        "path": file.path.decode("utf-8", "backslashreplace"),
        "use": [name for use, name in _USES.items() if use in file.use],
        "first_seen_at": instant(file.first_seen_us),
        "last_seen_at": _instant(file.last_seen_us or None),
        "workloads": _names(file.workloads, summary),
    }


def _names(positions: tuple[int, ...], summary: EvidenceSummary) -> list[str]:
    return [str(summary.workloads[position].workload) for position in positions]


def _instant(time_us: int | None) -> str | None:
    return None if time_us is None else instant(time_us)
