"""What follows from all that has come of images: the rules of the reference model over batches,
scans, decisions, records that cannot be read and containers that nobody can name.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.correlator.settings import CorrelatorSettings
from tests.unit.factories import IMAGE, package
from tests.unit.test_reference_model import OWNED, PATHS, is_covered
from vexstream.decision_log import Blank, Record
from vexstream.decisions import EVERY, Decision, DecisionSource
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.rules import DataAccess
from vexstream.scan import Package, Scan
from vexstream.status import BADNESS, Status

PACKAGES = [
    *(package(name, *files) for name, files in OWNED.items()),
    package("twin", PATHS[0], id="used-twin"),
    package("twin", b"/srv/bin/twin", id="idle-twin"),
    package("dark", b"/bin/dark", unobservable="nobody knows its files"),
    package("papers", PATHS[2]),
    package("versionless", b"/bin/versionless", purl="pkg:deb/debian/versionless"),
]


@dataclass(frozen=True)
class Garbage:
    """A record that cannot be read, of this image; of None, which may be any."""

    number: int
    of: Digest | None = IMAGE.config_digest


@dataclass(frozen=True)
class Again:
    """That record, sent again after a fix."""

    number: int
    batch: Batch


@dataclass(frozen=True)
class Dismiss:
    """Somebody says that it does not matter."""

    number: int


@dataclass(frozen=True)
class Decided:
    """A record of vex-decision."""

    key: bytes
    record: Record


@dataclass(frozen=True)
class Restart:
    """Another worker takes over; the last records come again."""

    back: int


@dataclass(frozen=True)
class Crash:
    """The same, before the changelogs of files and of scans had the last that was written."""

    files_back: int
    scans_back: int


@dataclass(frozen=True)
class Look:
    """What is said now is what follows from what has come."""


Event = Batch | Scan | Garbage | Again | Dismiss | Decided | Restart | Crash | Look


def _asks(told: Batch) -> bool:
    return bool(told.image.manifest_digests or told.image.names)


def _batches(events: Sequence[Event], image: Image) -> list[Batch]:
    """What was told of containers of the image; of one that nobody can name and that may run it,
    that it lost something."""
    told = told_in(events)
    named = [one for one in told if one.image.config_digest == image.config_digest]
    if not named:
        return []
    bears = {*image.manifest_digests, *image.names}
    bears.update(x for b in named for x in (*b.image.manifest_digests, *b.image.names))
    bearing = [
        one for one in told
        if one.image.config_digest == NO_IMAGE
        and not bears.isdisjoint({*one.image.manifest_digests, *one.image.names})
    ]  # fmt: skip
    nodes = {one.node for one in (*named, *bearing)}
    beside = [
        one for one in told
        if one.image.config_digest == NO_IMAGE and not _asks(one) and one.node in nodes
    ]  # fmt: skip
    return named + [
        replace(one, accesses=(), lost=max(one.lost, 1), parts=0, image=image)
        for one in (*bearing, *beside)
    ]


def _unread(events: Iterable[Event], image: Image) -> set[int]:
    garbage: set[int] = set()
    for event in events:
        if isinstance(event, Garbage) and event.of in (None, image.config_digest):
            garbage.add(event.number)
        elif isinstance(event, Again | Dismiss):
            garbage.discard(event.number)
    return garbage


def _holding(events: Iterable[Event], image: Image) -> Scan | None:
    scans = [
        event for event in events
        if isinstance(event, Scan) and event.image.config_digest == image.config_digest
    ]  # fmt: skip
    good = [one for one in scans if one.failure is None]
    return max(good, key=lambda one: one.scanned_at_us, default=None)


@dataclass(frozen=True)
class Said:
    """What holds under a key of vex-decision."""

    decision: Decision | None
    in_doubt: bool


def _decisions(events: Iterable[Event]) -> dict[bytes, Said]:
    said: dict[bytes, Said] = {}
    for event in events:
        if not isinstance(event, Decided):
            continue
        before = said.get(event.key, Said(None, False))
        if isinstance(event.record, Decision):
            newest = event.record
            vendor = newest.source is not DecisionSource.HUMAN
            if vendor and before.decision and before.decision.decided_at_us > newest.decided_at_us:
                continue
            said[event.key] = Said(newest, False)
        elif event.record is Blank.WITHDRAWN:
            said[event.key] = Said(None, False)
        else:
            kept = before.decision
            warns = kept is not None and kept.status in ("affected", "under_investigation")
            said[event.key] = Said(kept if warns else None, True)
    return said


def _about(key: bytes, one: Package, image: Image) -> tuple[bool, tuple[bool, ...]]:
    """Whether a key is about a package, and how closely."""
    source, scope, _, named = key.decode().split("|", 3)
    plain = one.purl.partition("?")[0]
    fits = scope in (EVERY, image.config_digest, *image.manifest_digests) and named in (
        EVERY, plain, plain.partition("@")[0], one.purl,
    )  # fmt: skip
    return fits, (source != "human", scope == EVERY, named == EVERY, "@" not in named)


def _decided(one: Package, said: dict[bytes, Said], observed: Status, image: Image) -> Status:
    fitting = [
        (_about(key, one, image)[1], -held.decision.decided_at_us, held.decision.status)
        for key, held in said.items()
        if held.decision is not None and not held.in_doubt and _about(key, one, image)[0]
    ]
    doubts = [
        _about(key, one, image)[1]
        for key, held in said.items()
        if held.in_doubt and _about(key, one, image)[0]
    ]
    first = min(fitting, default=None)
    status = observed if first is None else first[2]
    rules_out = status in (Status.NOT_AFFECTED, Status.FIXED)
    if rules_out and any(first is None or doubt <= first[0] for doubt in doubts):
        return Status.UNDER_INVESTIGATION
    return status


def _observed(one: Package, batches: Sequence[Batch], covered: bool, data: DataAccess) -> Status:
    uses = [(a.path, a.use) for b in batches for a in b.accesses if a.path in one.files]
    run = [path for path, use in uses if use & (Use.EXECUTED | Use.MAPPED)]
    opened = {path for path, _ in uses} - {PATHS[2]}
    if run or opened - {PATHS[3]}:
        return Status.AFFECTED
    if opened:
        return Status(data.value)
    if one.unobservable or not {*one.files} - {PATHS[2]} or "@" not in one.purl:
        return Status.UNDER_INVESTIGATION
    return Status.NOT_AFFECTED if covered else Status.UNDER_INVESTIGATION


def expected(
    events: Sequence[Event], policy: CorrelatorSettings, image: Image = IMAGE
) -> dict[str, Status] | None:
    """Package -> status; None where there is no document. ``image`` has the digests and names by
    which its scans have found it."""
    holding = _holding(events, image)
    if holding is None or not holding.findings:
        return None
    batches = _batches(events, image)
    newest = max((b.observed_to_us for b in told_in(events)), default=0)
    covered = is_covered(batches, policy, newest) and not _unread(events, image)
    decisions = _decisions(events)
    found: dict[str, Status] = {}
    by_id = {one.id: one for one in holding.packages}
    for finding in holding.findings:
        own = by_id[finding.package_id]
        for one in holding.packages:
            if one.name == own.name:
                observed = _observed(one, batches, covered, policy.data_access)
                status = _decided(one, decisions, observed, image)
                found[own.name] = min(found.get(own.name, status), status, key=BADNESS.__getitem__)
    return found


def told_in(events: Iterable[Event]) -> list[Batch]:
    return [e.batch if isinstance(e, Again) else e for e in events if isinstance(e, Batch | Again)]


def ruled_out(said: dict[str, Status] | None) -> set[str]:
    """The packages that are."""
    return {name for name, status in (said or {}).items() if status is Status.NOT_AFFECTED}
