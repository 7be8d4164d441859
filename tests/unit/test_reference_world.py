"""The rules of the reference model in a world where more happens to an image than batches: scans
that find other packages or fail, people's and vendors' decisions, records that cannot be read, are
sent again or dismissed, containers that nobody can name, nodes, workers that die, and a broker that
delivers again. At every look what the real pipeline says has to be what follows from all that came
until then.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batches import encode_batch
from services.common.kafka import DeadLetterBox
from services.common.origin import Dismissed, dismissal_headers, origin_headers
from services.correlator.burials import Burials
from services.correlator.settings import CorrelatorSettings
from services.correlator.stream import Stream
from services.correlator.tenure import Tenure
from tests.unit.factories import CONFIG, IMAGE, MANIFEST, SECOND, batch, scan
from tests.unit.reference import (
    PACKAGES,
    Again,
    Crash,
    Decided,
    Dismiss,
    Event,
    Garbage,
    Look,
    Restart,
    expected,
    ruled_out,
)
from tests.unit.test_reference_model import (
    PATHS,
    PERIOD,
    SILENCE,
    WORKLOADS,
    histories,
)
from tests.unit.worker import Worker
from vexstream.decision_log import Blank
from vexstream.decisions import EVERY, Decision, DecisionSource
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.rules import DataAccess
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure
from vexstream.status import Status
from vexstream.unreadable import Dismissal, RecordPlace

TOPIC = "vexstream.file-access"
OTHER = Digest("sha256:" + "d" * 64)


class World(Worker):
    """A worker with its stream; what it cannot use goes to a box of dead letters."""

    def __init__(self, policy: CorrelatorSettings) -> None:
        self.is_behind = False
        self._written: list[tuple[dict[bytes, bytes], dict[bytes, bytes]]] = []
        """The tables of files and of scans after each record."""
        self.garbage: dict[int, int] = {}
        """Where on the topic the records are that cannot be read."""
        super().__init__(policy)

    def restart(self) -> None:
        super().restart()
        self._publisher.behind = lambda _: self.is_behind
        dead = DeadLetterBox("correlator", "dead", self._sender())
        changed, tenure = self._publisher.changed, Tenure()
        tenure.recovered(tenure.count)
        burials = Burials(TOPIC, self.state, dead, self._partitions, changed)
        app: Any = None
        self._stream = Stream(
            self._settings, app, self._sender(), self.state, tenure, burials, lambda _: None
        )

    def _sender(self) -> Any:
        return self

    def note(self) -> None:
        """A record was used."""
        self._written.append((dict(self.evidence), dict(self._scans)))

    def crash(self, crash: Crash) -> int:
        """Begins anew with what the changelogs had; says how many records come again."""
        files, scans = (
            min(back, len(self._written)) for back in (crash.files_back, crash.scans_back)
        )
        held = [({}, {}), *self._written]
        self.evidence, self._scans = dict(held[-1 - files][0]), dict(held[-1 - scans][1])
        self.is_behind = True
        self.restart()
        return max(files, scans)

    async def deliver(self, event: Event, offsets: dict[int, int]) -> None:
        """Takes the event in; ``offsets`` are those of the records by what they are."""
        if isinstance(event, Scan):
            await self.use(event)
        elif isinstance(event, Decided):
            self.decide(event.key, event.record)
        else:
            message = _message(event, offsets, self.garbage)
            await self._stream.take(message, self._intake.batch)


def _message(event: Event, offsets: dict[int, int], garbage: dict[int, int]) -> Any:
    key: bytes = CONFIG.encode()
    value: bytes | None = b"garbage"
    headers: Any = []
    if isinstance(event, Batch):
        key, value = event.image.config_digest.encode(), encode_batch(event)
    elif isinstance(event, Again | Dismiss):
        place = RecordPlace(TOPIC, 0, garbage[event.number])
        if isinstance(event, Again):
            value, headers = encode_batch(event.batch), origin_headers(place, "")
        else:
            said = Dismissed(place, Dismissal("alice", "a test"), older=False)
            value, headers = None, dismissal_headers(said, "")
    return SimpleNamespace(
        topic=TOPIC, partition=0, offset=offsets[id(event)], key=key, value=value, headers=headers
    )


@st.composite
def _scans(draw: st.DrawFn) -> list[Scan]:
    times = draw(st.lists(st.integers(0, 50), unique=True, max_size=3))
    scans = []
    for at in [60, *times]:
        there = [one for one in PACKAGES if draw(st.integers(0, 9))]
        found = [Finding("CVE-1", one.id) for one in there if draw(st.integers(0, 9))]
        made = replace(scan(there, found), scanned_at_us=at * SECOND)
        if at != 60 and draw(st.integers(0, 3)) == 0:
            made = replace(
                made,
                packages=(),
                findings=(),
                failure=ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "slow"),
            )
        scans.append(made)
    return scans


@st.composite
def _decided_records(draw: st.DrawFn) -> list[Event]:
    records: list[Event] = []
    for number in range(draw(st.integers(0, 4))):
        one = draw(st.sampled_from(PACKAGES))
        plain = one.purl.partition("?")[0]
        status = draw(st.sampled_from([*Status, Status.NOT_AFFECTED]))
        made = Decision(
            scope=draw(st.sampled_from([CONFIG, MANIFEST, EVERY, OTHER])),
            vulnerability="CVE-1",
            package=draw(st.sampled_from([plain, plain.partition("@")[0], one.purl])),
            status=status,
            text="it is so",
            author="alice",
            source=draw(st.sampled_from([DecisionSource.HUMAN, DecisionSource.OPENVEX])),
            decided_at_us=draw(st.integers(0, 20)) * 10 + number,
        )
        if made.scope != EVERY and draw(st.booleans()):
            made = replace(made, package=EVERY)
        records.append(Decided(made.key, made))
        last = draw(st.sampled_from([None, None, Blank.WITHDRAWN, Blank.UNREADABLE]))
        if last is not None:
            records.append(Decided(made.key, last))
    return records


@st.composite
def _nameless(draw: st.DrawFn) -> list[Batch]:
    asked = draw(
        st.sampled_from(
            [
                Image(NO_IMAGE, (MANIFEST,)),
                Image(NO_IMAGE, (), IMAGE.names),
                Image(NO_IMAGE, (OTHER,)),
                Image(NO_IMAGE),
            ]
        )
    )
    start = draw(st.integers(0, 20))
    told = batch(
        start, start + 2, [PATHS[1]], image=asked, workload=draw(st.sampled_from(WORKLOADS)),
        container=draw(st.sampled_from(["c0", "nameless-1", "nameless-2"])),
        started=start, lost=draw(st.integers(0, 1)),
    )  # fmt: skip
    return [replace(told, node=draw(st.sampled_from(["node-1", "node-2", "node-3"])))]


@st.composite
def _worlds(draw: st.DrawFn) -> list[Event]:
    told = draw(histories())
    nodes = draw(st.lists(st.sampled_from(["node-1", "node-1", "node-2"]), min_size=6, max_size=6))
    ran = draw(st.sets(st.integers(0, 40), max_size=2))
    told = [
        replace(b, node=nodes[int(b.container_id[1:])], accesses=tuple(
            a._replace(use=Use.EXECUTED) if number in ran else a for a in b.accesses
        ))
        for number, b in enumerate(told)
    ]  # fmt: skip
    asking = draw(st.sets(st.integers(0, 40), max_size=2))
    told = [
        replace(b, learning_period_us=(b.learning_period_us or 0) + 3 * SECOND)
        if number in asking else b
        for number, b in enumerate(told)
    ]  # fmt: skip
    if draw(st.booleans()):
        told = draw(st.permutations(told))
    events: list[Event] = list(told)

    def put(more: Sequence[Event]) -> None:
        """Among the others, in their order."""
        at = 0
        for one in more:
            at = draw(st.integers(at, len(events)))
            events.insert(at, one)
            at += 1

    put(draw(st.permutations(draw(_scans()))))
    put(draw(_decided_records()))
    for number in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        end = draw(st.sampled_from([None, Dismiss(number), Again(number, batch(0, 1, [PATHS[1]]))]))
        put([Garbage(number), *([] if end is None else [end])])
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3]))):
        put(draw(_nameless()))
    put([Restart(draw(st.integers(0, 5))) for _ in range(draw(st.integers(0, 2)))])
    crashes = draw(st.sampled_from([0, 0, 1, 2]))
    put([Crash(draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(crashes)])
    put([Look() for _ in range(draw(st.integers(0, 4)))])
    if draw(st.booleans()) and told:
        late = batch(60, 61, [PATHS[0]], container="late", workload=told[0].workload, started=60)
        events += [Look(), late, Look(), Crash(draw(st.integers(0, 2)), draw(st.integers(0, 2)))]
    return [*events, Look()]


_POLICIES = st.builds(
    lambda strict, data, files: CorrelatorSettings(
        learning_period_seconds=PERIOD, minimum_learning_period_seconds=1,
        strict_coverage=strict, silence_seconds=SILENCE, data_access=data, files_in_memory=files,
    ),
    st.booleans(), st.sampled_from(list(DataAccess)), st.sampled_from([1, 10**6]),
)  # fmt: skip


async def _after_a_crash(
    world: World,
    crash: Crash,
    past: Sequence[Event],
    offsets: dict[int, int],
    expected_now: dict[str, Status] | None,
) -> None:
    """Before all has come again nothing is ruled out that was not, and does not follow from all."""
    before = ruled_out(_said(world))
    again = world.crash(crash)
    for one in past[len(past) - again :]:
        await world.look()
        assert ruled_out(_said(world)) <= before | ruled_out(expected_now)
        if not isinstance(one, Decided):
            await world.deliver(one, offsets)
    world.is_behind = False


async def _live(events: Sequence[Event], policy: CorrelatorSettings) -> World:
    world = World(policy)
    past: list[Event] = []
    offsets: dict[int, int] = {}
    for event in events:
        if isinstance(event, Look):
            await world.look()
            assert _said(world) == expected(past, policy)
        elif isinstance(event, Restart):
            world.restart()
            for one in past[len(past) - min(event.back, len(past)) :]:
                if not isinstance(one, Decided):
                    await world.deliver(one, offsets)
        elif isinstance(event, Crash):
            await _after_a_crash(world, event, past, offsets, expected(past, policy))
        else:
            if not isinstance(event, Scan | Decided):
                offsets[id(event)] = len(offsets)
            if isinstance(event, Garbage):
                world.garbage[event.number] = offsets[id(event)]
            await world.deliver(event, offsets)
            past.append(event)
            world.note()
    return world


def _said(world: World) -> dict[str, Status] | None:
    body = world.bodies.get(CONFIG)
    if not body:
        return None
    return {
        s["products"][0]["subcomponents"][0]["@id"].split("/")[2].split("@")[0]: Status(s["status"])
        for s in json.loads(body)["statements"]
    }


@settings(max_examples=150)
@given(_worlds(), _POLICIES)
def test_whatever_happens_what_is_said_follows_from_what_came(
    events: list[Event], policy: CorrelatorSettings
) -> None:
    asyncio.run(_live(events, policy))


_ALL = scan(PACKAGES, [Finding("CVE-1", one.id) for one in PACKAGES])
_WHOLE = replace(batch(0, 60, workload=WORKLOADS[0]), node="node-1")
_USES = batch(60, 61, [PATHS[0]], workload=WORKLOADS[0], started=0, sequence=1)
_JOB = batch(0, 60, workload=WORKLOADS[1], container="c2")
_NAMED = replace(
    batch(50, 51, image=Image(NO_IMAGE, (), IMAGE.names), workload=WORKLOADS[1], container="gone"),
    node="node-2",
)
_BARE = replace(
    batch(52, 53, image=Image(NO_IMAGE), workload=WORKLOADS[2], container="bare"), node="node-2"
)
_OPEN, _OUT, _USED = Status.UNDER_INVESTIGATION, Status.NOT_AFFECTED, Status.AFFECTED


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([_ALL, _WHOLE, Look(), Garbage(0), Look(), Restart(0), Look(), Dismiss(0), Look(),
          Restart(0), Look()], [_OUT, _OPEN, _OPEN, _OUT, _OUT]),
        ([_ALL, _WHOLE, Look(), Garbage(0), Look(), Again(0, _USES), Look(), Restart(0), Look()],
         [_OUT, _OPEN, _USED, _USED]),
        ([_ALL, _WHOLE, Garbage(0), Restart(0), Look(), Again(0, _WHOLE), Look(), Restart(0),
          Look()], [_OPEN, _OUT, _OUT]),
        ([Garbage(0), _WHOLE, _ALL, Look(), Restart(0), Look()], [_OPEN, _OPEN]),
        ([_ALL, _WHOLE, Look(), Garbage(0), Garbage(1), Look(), Dismiss(0), Look(), Restart(2),
          Look(), Dismiss(1), Look()], [_OUT, _OPEN, _OPEN, _OPEN, _OUT]),
        ([replace(_ALL, findings=_ALL.findings[1:]), _WHOLE, Look(),
          replace(_ALL, scanned_at_us=SECOND), Restart(0), Look()], [None, _OUT]),
        ([_ALL, _WHOLE, Look(), _USES, Restart(0), Look()], [_OUT, _USED]),
        ([_ALL, _WHOLE, _NAMED, Look(), _JOB, Look(), _BARE, Look(), Restart(0), Look()],
         [_OPEN, _OUT, _OPEN, _OPEN]),
        ([_ALL, _NAMED, _WHOLE, _JOB, Look(), _BARE, Look()], [_OUT, _OPEN]),
        ([_ALL, _NAMED, _WHOLE, _JOB, Look(), Restart(0), _BARE, Look()], [_OUT, _OPEN]),
        ([_ALL, _BARE, _NAMED, _WHOLE, _JOB, Look()], [_OPEN]),
        ([_ALL, _WHOLE, _JOB, _BARE, Look(), _NAMED, Look(), Restart(0), Look()],
         [_OUT, _OPEN, _OPEN]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("files_in_memory", [1, 10**6])
async def test_what_is_said_of_a_package_meanwhile(
    events: list[Event], said: list[Status | None], files_in_memory: int
) -> None:
    policy = CorrelatorSettings(
        learning_period_seconds=PERIOD, minimum_learning_period_seconds=1,
        files_in_memory=files_in_memory,
    )  # fmt: skip
    for number, at in enumerate(at for at, one in enumerate(events) if isinstance(one, Look)):
        world = await _live(events[: at + 1], policy)
        assert (_said(world) or {}).get("one") == said[number], f"look {number}"


@pytest.mark.parametrize("then", [[], [Restart(0)]])
async def test_where_all_containers_are_asked_for_a_silent_one_keeps_the_image_open(
    then: list[Event],
) -> None:
    policy = CorrelatorSettings(
        learning_period_seconds=PERIOD, silence_seconds=SILENCE, strict_coverage=True
    )
    silent = batch(50, 52, workload=WORKLOADS[0], container="silent", started=50)
    said = []
    for last in (55, 70):
        told: list[Event] = [_ALL, replace(_WHOLE, observed_to_us=last * SECOND), silent]
        world = await _live([*told, *then, Look()], policy)
        said.append((_said(world) or {})["one"])
    assert said == [_OUT, _OPEN]
