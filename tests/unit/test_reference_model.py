"""The rules once more, over the raw list of batches and second by second: what the real pipeline
says of a generated history has to be what they say, in whatever order it comes, and however often.

These are the rules of docs/correlator.md, written down without looking at how they are kept up.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hypothesis import given, settings
from hypothesis import strategies as st

from services.correlator.settings import CorrelatorSettings
from tests.unit.factories import CONFIG, SECOND, batch, package, scan
from tests.unit.worker import Worker
from vexstream.evidence import Batch, Use
from vexstream.identity import Workload
from vexstream.scan import Finding
from vexstream.status import Status

PERIOD, SILENCE = 6, 9
PATHS = [b"/bin/one", b"/usr/lib/two.so", b"/usr/share/doc/three/copyright", b"/etc/four.conf"]
OWNED = {"one": PATHS[:1], "two": PATHS[1:2], "three": [PATHS[2], b"/bin/three"], "four": PATHS[3:]}
SCAN = scan(
    [package(name, *files) for name, files in OWNED.items()],
    [Finding("CVE-1", name) for name in OWNED],
)
WORKLOADS = [Workload("shop", "web", "app"), Workload("shop", "job", "app"),
             Workload("fast", "web", "app")]  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One container, by all that was ever said of it."""

    batches: Sequence[Batch]
    policy: CorrelatorSettings

    @cached_property
    def workload(self) -> Workload:
        return min(b.workload for b in self.batches)

    @cached_property
    def started(self) -> int:
        return min(b.started_at_us for b in self.batches)

    @cached_property
    def period(self) -> int:
        asked = max((b.learning_period_us or 0 for b in self.batches), default=0)
        spaces = self.policy.namespace_learning_period_seconds
        seconds = spaces.get(self.workload.namespace, self.policy.learning_period_seconds)
        least = self.policy.minimum_learning_period_seconds or 0
        return max(asked or int(seconds * SECOND), int(least * SECOND))

    @cached_property
    def first(self) -> int:
        return min(b.observed_from_us for b in self.batches)

    @cached_property
    def last(self) -> int:
        return max(b.observed_to_us for b in self.batches)

    @cached_property
    def losses(self) -> list[Batch]:
        return [b for b in self.batches if b.lost]

    def _is_whole(self, end: Batch) -> bool:
        """A batch that ends an interval, and all the parts that it says there are."""
        parts = {
            b.sequence for b in self.batches
            if (b.run, b.observed_from_us, b.observed_to_us, b.lost)
            == (end.run, end.observed_from_us, end.observed_from_us, 0)
        }  # fmt: skip
        return len(parts) >= end.parts

    def _watched(self, run: str, at: int) -> bool:
        """This second was watched by that collector, without loss."""
        return any(
            b.run == run and b.observed_from_us <= at < b.observed_to_us and self._is_whole(b)
            for b in self.batches if not b.lost
        )  # fmt: skip

    @cached_property
    def until(self) -> int | None:
        """How far one and the same collector watched it from its creation, without a loss."""
        lost_from = min((b.observed_from_us for b in self.losses), default=10**18)
        reached = []
        for run in {b.run for b in self.batches}:
            at = self.started
            while at < lost_from and self._watched(run, at):
                at += SECOND
            reached.append(at)
        return max(reached) if max(reached) > self.started else None

    @cached_property
    def whole(self) -> bool:
        return self.until is not None and self.until - self.started >= self.period

    @cached_property
    def ended(self) -> tuple[int, int] | None:
        ends = [(b.observed_to_us, b.exit_code) for b in self.batches if b.exit_code is not None]
        return max(ends, default=None)

    @cached_property
    def lived(self) -> bool:
        """All of its life was watched."""
        if self.ended is None or self.until is None:
            return False
        return self.last <= self.ended[0] <= self.until

    def missed(self, now: int) -> bool:
        """Something was missed of it that the strict rule asks for."""
        if self.losses or self.first > self.started:
            return True
        if self.last > (self.started if self.until is None else self.until):
            return True
        return not self.whole and not self.lived and now - self.last > SILENCE * SECOND


def _by_lives(containers: Sequence[Seen]) -> bool:
    """Three whole lives over the period, and nothing else of the workload was missed meanwhile."""
    in_time = sorted(containers, key=lambda c: (c.started, c.ended or (0, 0)))
    good = [n for n, c in enumerate(in_time) if c.lived and c.ended and c.ended[1] == 0]
    for first in good:
        for last in (n for n in good if n > first):
            lives = [in_time[n] for n in good if first <= n <= last]
            since, until = in_time[first].started, max(c.ended[0] for c in lives if c.ended)
            if (
                len(lives) >= 3
                and until - since >= max(c.period for c in lives)
                and all(c.lived or c.last <= since for c in in_time[:first])
                and all(
                    c.lived or (c.ended is None and c.until is not None and c.until >= until)
                    for c in in_time[first : last + 1]
                )
            ):
                return True
    return False


def is_covered(told: Sequence[Batch], policy: CorrelatorSettings, now: int) -> bool:
    """Every workload was seen whole."""
    ids = {(b.node, b.container_id) for b in told}
    containers = [Seen([b for b in told if (b.node, b.container_id) == one], policy) for one in ids]
    of = {c.workload: [o for o in containers if o.workload == c.workload] for c in containers}
    return bool(of) and all(
        (any(c.whole for c in ones) or _by_lives(ones))
        and not (policy.strict_coverage and any(c.missed(now) for c in ones))
        for ones in of.values()
    )


def expected(batches: Iterable[Batch], policy: CorrelatorSettings) -> dict[str, Status]:
    """Package -> status."""
    told = list(batches)
    used = {access.path for b in told for access in b.accesses}
    now = max((b.observed_to_us for b in told), default=0)
    idle = Status.NOT_AFFECTED if is_covered(told, policy, now) else Status.UNDER_INVESTIGATION
    return {
        name: Status.AFFECTED if used & {*files} - {PATHS[2]} else idle
        for name, files in OWNED.items()
    }


_FLAWS = st.sampled_from([*["none"] * 30, "lost", "dropped", "gap", "restart", "part missing"])
_PIECES = st.lists(
    st.tuples(
        st.integers(1, 6), _FLAWS, st.integers(0, 2), st.integers(-3, 3),
        st.sampled_from([*[None] * 20, *PATHS]),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@st.composite
def _container(draw: st.DrawFn, number: int) -> list[Batch]:
    """What the collectors of a node say of one container, with faults."""
    started = at = draw(st.integers(0, 20))
    late = draw(st.sampled_from([0, 0, 0, 0, 1]))
    workload, asked = (
        draw(st.sampled_from([WORKLOADS[0], *WORKLOADS])),
        draw(st.sampled_from([None] * 4 + [2, 9])),
    )
    at, run, sequence, told = at + late, 0, 0, []
    pieces = draw(_PIECES)
    for length, flaw, parts, moved, path in pieces:
        if flaw == "restart":
            # A new collector; the clock may have been set back while there was none.
            run, sequence, at = run + 1, 0, max(0, at + moved)
        at += flaw == "gap"
        made = [
            batch(at, at, [path] if path and number == 0 else [], sequence=sequence + number)
            for number in range(parts)
        ]
        end = batch(
            at, at + length, [path] if path and not parts else [], sequence=sequence + parts,
            lost=int(flaw == "lost"), use=Use.OPENED,
        )  # fmt: skip
        made.append(replace(end, parts=parts))
        sequence += parts + 1
        missing = {"dropped": len(made), "part missing": 1}.get(flaw, 0)
        told += [
            replace(b, run=f"run-{run}", container_id=f"c{number}", workload=workload,
                    started_at_us=started * SECOND,
                    learning_period_us=None if asked is None else asked * SECOND)
            for b in made[missing:]
        ]  # fmt: skip
        at += length
    code = draw(st.sampled_from([None, None, 0, 0, 0, 0, 1]))
    if told and code is not None:
        told[-1] = replace(told[-1], exit_code=code)
    return told


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    """Of up to six containers, in the order of their observation."""
    count = draw(st.integers(1, 6))
    return [b for number in range(count) for b in draw(_container(number))]


_POLICIES = st.builds(
    lambda strict, least, fast: CorrelatorSettings(
        learning_period_seconds=PERIOD, minimum_learning_period_seconds=least,
        namespace_learning_period_seconds=fast, strict_coverage=strict, silence_seconds=SILENCE,
    ),
    st.booleans(), st.sampled_from([1, 4]), st.sampled_from([{}, {"fast": 3}, {"shop": 12}]),
)  # fmt: skip


async def _said(
    told: Sequence[Batch], policy: CorrelatorSettings, restarts: set[int]
) -> dict[str, str]:
    worker = Worker(policy)
    await worker.use(SCAN)
    for number, one in enumerate(told):
        if number in restarts:
            worker.restart()
        await worker.use(one)
        if number % 3 == 0:
            await worker.flush()
    await worker.look()
    document = json.loads(worker.bodies[CONFIG])
    return {
        s["products"][0]["subcomponents"][0]["@id"].split("/")[2].split("@")[0]: s["status"]
        for s in document["statements"]
    }


@settings(deadline=None, max_examples=200)
@given(histories(), _POLICIES, st.randoms(), st.booleans(), st.sets(st.integers(0, 60), max_size=3))
def test_what_is_said_is_what_the_rules_say(
    history: list[Batch],
    policy: CorrelatorSettings,
    random: object,
    in_order: bool,
    restarts: set[int],
) -> None:
    told = history + history[::3]
    if not in_order:
        random.shuffle(told)  # type: ignore[attr-defined]
    said = asyncio.run(_said(told, policy, restarts))
    assert said == {name: str(status) for name, status in expected(history, policy).items()}
