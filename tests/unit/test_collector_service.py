"""The collector's loop without a kernel and a runtime: what it makes of what nobody tells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.ci.watch import MemoryPublisher
from services.collector import service
from services.collector.cgroups import CgroupIndex
from services.collector.cluster import Cluster
from services.collector.errors import RuntimeUnavailableError
from services.collector.events import CgroupEvent, RawEvent
from services.collector.pauses import Pauses
from services.collector.runtime import ContainerInfo, Ended, Listed
from services.collector.runtimes import Runtimes
from services.collector.service import Collector, Health
from services.collector.settings import CollectorSettings
from services.collector.source import ANY_CGROUP, Losses
from tests.unit.tracking import ID, IMAGE, INIT, OTHER_ID, SECOND, container, file_used, made
from vexstream.evidence import Batch, Use
from vexstream.identity import Image


class Runtime:
    """Lists what the test says, and describes those that are there."""

    def __init__(self) -> None:
        self.there: dict[str, ContainerInfo] = {}
        self.listed: list[str] = []
        self.exited: set[str] = set()
        self.broken: set[str] = set()
        self.ended_at: dict[str, Ended] = {}
        self.own = ""
        self.answers = True

    async def version(self) -> str:
        return "fake"

    async def list(self) -> list[Listed]:
        if not self.answers:
            raise RuntimeUnavailableError("it does not answer")
        return [Listed(one, started=True, exited=one in self.exited) for one in self.listed]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        if container_id in self.broken:
            raise RuntimeUnavailableError("it answers 500")
        return self.there.get(container_id)

    async def ended(self, container_id: str) -> Ended | None:
        return self.ended_at.get(container_id)

    def owns(self, path: str) -> bool:
        return bool(self.own) and self.own in path

    async def close(self) -> None:
        pass


class Source:
    """Delivers what the test puts into it."""

    name = "fake"

    def __init__(self) -> None:
        self.events: list[RawEvent] = []

    def start(self) -> None:
        pass

    def drain(self) -> list[RawEvent]:
        events, self.events = self.events, []
        return events

    def wake_fd(self) -> int | None:
        return None

    def losses(self) -> Losses:
        return Losses()

    def forget(self, cgroup: int) -> None:
        pass

    def close(self) -> None:
        pass


class Node:
    """A collector, and what it is told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 100 * SECOND
        for clock in ("_now_us", "_monotonic_us"):
            monkeypatch.setattr(service, clock, lambda: self.now_us)
        settings = CollectorSettings(hold_seconds=2)
        self.runtime, self.source = Runtime(), Source()
        self.publisher = MemoryPublisher(settings)
        cluster = Cluster()
        cluster.name = ""
        self.collector = Collector(
            settings, self.source, CgroupIndex(folder), self.runtime, self.publisher, Health(),
            cluster,
        )  # fmt: skip

    async def turn(self, *events: RawEvent, seconds: float = 1, cut: bool = True) -> list[Batch]:
        """What is told in the turn in which these events are read."""
        self.now_us += int(seconds * SECOND)
        self.source.events += events
        before = len(self.publisher.batches)
        await self.collector._turn(cut=cut)
        return self.publisher.batches[before:]

    async def observe(self, one: str = ID) -> None:
        """A container runs."""
        self.runtime.listed.append(one)
        self.runtime.there[one] = container(one, self.now_us + SECOND // 2)
        await self.turn(made(10, one), file_used(INIT, 10, use=Use.EXECUTED))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def _lost(batches: list[Batch]) -> set[tuple[str, int]]:
    return {(reason, batch.lost) for batch in batches for reason in batch.loss_reasons}


async def test_what_one_used_that_was_listed_and_gone_when_asked_for_is_a_loss(node: Node) -> None:
    await node.observe()
    node.runtime.listed.append(OTHER_ID)
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    node.runtime.listed.remove(OTHER_ID)
    assert _lost(await node.turn(seconds=3)) == set(), "it is asked for once more"
    assert _lost(await node.turn()) == {("container_unknown", 1)}


async def test_one_of_which_nobody_ever_spoke_is_none_of_ours(node: Node) -> None:
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    for _ in range(3):
        assert _lost(await node.turn(seconds=3)) == set()


async def test_what_the_runtime_owns_and_does_not_list_is_a_loss_once_it_answers(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    node.runtime.answers = False
    for _ in range(3):
        assert _lost(await node.turn(seconds=3)) == set(), "it may be slow to list it"
    node.runtime.answers = True
    assert _lost(await node.turn()) == {("container_unknown", 1)}
    assert _lost(await node.turn()) == set()


async def test_a_runtime_that_does_not_answer_for_long_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    node.runtime.answers = False
    monkeypatch.setattr(service, "_DECIDE_SECONDS", 0.0)
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    assert _lost(await node.turn(seconds=3)) == {("container_unknown", 1)}


async def test_one_that_is_listed_late_has_its_loss_alone(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    await node.turn(seconds=3)
    await node.observe(OTHER_ID)
    batches = await node.turn(file_used(INIT, 11, use=Use.EXECUTED))
    assert _lost([batch for batch in batches if batch.container_id == ID]) == set()
    assert node.collector._strange == 0
    (batch,) = (one for one in batches if one.container_id == OTHER_ID)
    assert "container_unknown" in batch.loss_reasons


async def test_one_that_runs_and_of_which_nothing_is_heard_is_a_loss(node: Node) -> None:
    """Nothing of it is in any cgroup that is known: its silence is no evidence."""
    node.runtime.listed.append(ID)
    node.runtime.there[ID] = container(ID, node.now_us)
    await node.turn()
    assert ("cgroup_unknown", 1) in _lost(await node.turn(seconds=40))


TOLD = "e" * 64
"""A sandbox that the runtime told of."""


def _pause(cgroup: int, inode: int, **changes: Any) -> RawEvent:
    return file_used(b"/pause", cgroup, use=Use.EXECUTED, inode=inode, **changes)


async def _sandbox_is_told_of(node: Node, inode: int = 7) -> None:
    """Its program is known from then on."""
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(20, TOLD), _pause(20, inode))
    await node.turn(seconds=3)
    await node.turn()


async def test_a_pods_sandbox_that_nobody_told_of_is_no_loss(node: Node) -> None:
    await _sandbox_is_told_of(node)
    await node.turn(made(11, OTHER_ID), _pause(11, 7))
    await node.turn(seconds=3)
    assert _lost(await node.turn()) == set()


@pytest.mark.parametrize(
    "used",
    [(11, 8, {}), (11, 7, {"use": Use.EXECUTED | Use.REWRITTEN})],
    ids=["another file", "its own copy"],
)
async def test_what_another_image_has_by_the_name_of_its_program_is_one(
    node: Node, used: tuple[int, int, dict[str, Any]]
) -> None:
    await _sandbox_is_told_of(node)
    cgroup, inode, changes = used
    event = {"use": Use.EXECUTED, "inode": inode} | changes
    await node.turn(made(11, OTHER_ID), file_used(b"/pause", cgroup, **event))
    await node.turn(seconds=3)
    assert _lost(await node.turn()) == {("container_unknown", 1)}


async def test_as_long_as_no_sandbox_was_told_of_any_may_be_a_container(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), _pause(11, 7))
    await node.turn(seconds=3)
    assert _lost(await node.turn()) == {("container_unknown", 1)}


def test_where_each_sandbox_has_a_copy_the_last_ones_are_known() -> None:
    pauses = Pauses()
    for inode in range(1, 1500):
        pauses.add({f"/told/{inode}": {inode}})
        assert not pauses.strange(lambda _: False)
    pauses.add({"/early": {9}, "/late": {1499, 1400}, "/both": {9, 1499}})
    assert pauses.strange(lambda _: True) == {"/early": 1, "/both": 1}


async def _forget_cgroups(node: Node) -> None:
    """All but that of the container that runs."""
    (node.collector._index.root / "kubepods/pod1" / ID).mkdir(parents=True)
    for _ in range(2):
        await node.collector._keep_house()


async def test_nor_is_it_when_its_cgroup_is_gone_and_what_it_used_was_given_up_before(
    node: Node,
) -> None:
    await _sandbox_is_told_of(node)
    await node.turn(made(11, OTHER_ID), _pause(11, 7))
    await node.turn(seconds=3)
    await _forget_cgroups(node)
    for _ in range(2):
        assert _lost(await node.turn()) == set()


async def test_what_was_given_up_is_told_once(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    await node.turn(seconds=3)
    assert _lost(await node.turn()) == {("container_unknown", 1)}
    await _forget_cgroups(node)
    for _ in range(2):
        assert _lost(await node.turn()) == set()


def _run_again(node: Node, at_us: int) -> tuple[RawEvent, ...]:
    """The container of the test had ended, and has run once more since then."""
    node.runtime.ended_at[ID] = Ended(at_us, 0)
    return (made(12), file_used(b"/bin/late", 12, use=Use.EXECUTED))


async def _ended(node: Node) -> None:
    await node.observe()
    node.runtime.exited.add(ID)
    node.runtime.ended_at[ID] = Ended(node.now_us + 1, 0)
    (last,) = await node.turn()
    assert last.exit_code == 0
    assert await node.turn() == []


async def test_one_that_ran_again_and_ended_before_it_was_listed_has_what_it_used(
    node: Node,
) -> None:
    """``docker start`` of a job that takes a moment: it is listed as ended before and after."""
    await _ended(node)
    assert await node.turn(*_run_again(node, node.now_us + 1)) == []
    (again,) = await node.turn()
    assert [access.path for access in again.accesses] == [b"/bin/late"]
    assert (again.container_id, again.lost) == (ID, 0)
    assert await node.turn() == []


async def test_what_it_used_then_is_its_loss_when_it_cannot_be_told(node: Node) -> None:
    await _ended(node)
    await node.turn(*_run_again(node, node.now_us + 1))
    node.runtime.answers = False
    for _ in range(3):
        await node.turn(seconds=3)
    node.runtime.answers = True
    batches = await node.turn() + await node.turn()
    assert [batch.container_id for batch in batches if batch.lost] == [ID]


async def test_one_of_which_the_runtime_cannot_tell_hides_no_other(node: Node) -> None:
    node.runtime.listed.append(OTHER_ID)
    node.runtime.broken.add(OTHER_ID)
    await node.observe()
    assert node.collector._tracker.containers == {ID}
    assert "it answers 500" in (node.collector._health.not_ready() or "")
    node.runtime.listed.remove(ID)
    await node.turn()
    await node.turn(seconds=11)
    assert node.collector._tracker.containers == set()
    node.runtime.broken.clear()
    node.runtime.there[OTHER_ID] = container(OTHER_ID, node.now_us)
    await node.turn()
    assert node.collector._tracker.containers == {OTHER_ID}
    assert node.collector._health.not_ready() is None


@pytest.mark.parametrize("slow", [False, True])
async def test_one_of_which_it_cannot_tell_any_more_keeps_no_other_from_what_is_learnt_later(
    node: Node, monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    """Whichever comes first in the order of a set. One that takes its time comes last then."""
    others = [f"{n:x}" * 64 for n in range(2, 8)]
    for one in (ID, *others):
        await node.observe(one)
    node.runtime.broken.add(others[2])
    if slow:
        monkeypatch.setattr(service, "_PATIENCE_SECONDS", -1.0)
    known = Image(IMAGE.config_digest, (), ("cart:1",))
    for one, info in node.runtime.there.items():
        node.runtime.there[one] = replace(info, image=known)
    for _ in range(2):
        await node.collector._keep_house()
    tracked = node.collector._tracker._tracked
    named = {one for one, its in tracked.items() if its.observation.image == known}
    assert named == {ID, *others} - {others[2]}


WEB = "plain/web"
NAMED = CgroupEvent(11, "/plain/web", 105 * SECOND)


async def test_a_name_is_no_excuse_for_one_that_nobody_told_of(node: Node) -> None:
    node.runtime.own = "/plain/"
    await node.observe()
    node.runtime.listed.append(WEB)
    node.runtime.there[WEB] = container(WEB, node.now_us)
    await node.turn()
    node.runtime.exited.add(WEB)
    await node.turn(NAMED, file_used(b"/bin/app", 11), seconds=5)
    await node.turn(seconds=3)
    assert ("container_unknown", 1) in _lost(await node.turn())


async def test_what_was_given_up_of_a_name_may_be_of_the_one_that_bore_it_before(
    node: Node,
) -> None:
    """Which came and went while nobody told of it, and may have run another image."""
    node.runtime.own = "/plain/"
    await node.observe()
    node.runtime.answers = False
    await node.turn(NAMED, file_used(b"/bin/app", 11))
    await node.turn(seconds=3)
    node.runtime.answers = True
    node.runtime.listed.append(WEB)
    node.runtime.there[WEB] = container(WEB, node.now_us)
    of_all = [one for one in await node.turn() if "container_unknown" in one.loss_reasons]
    assert ID in {one.container_id for one in of_all}


async def test_one_of_which_the_runtime_never_tells_goes_on_losing_for_all(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it uses is perhaps that of any image, also when nothing more is kept of it."""
    monkeypatch.setattr(service, "_DECIDE_SECONDS", -1)
    node.runtime.own = "kubepods"
    node.runtime.listed.append(OTHER_ID)
    node.runtime.broken.add(OTHER_ID)
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/first", 11))
    batches = [batch for _ in range(3) for batch in await node.turn(seconds=3)]
    assert ("container_unknown", 1) in _lost(batches)
    for _ in range(2):
        batches = await node.turn(file_used(b"/bin/more", 11))
        assert _lost(batches + await node.turn(seconds=3)) == {("container_unknown", 1)}
        assert _lost(await node.turn()) == set()


async def test_one_that_is_started_again_before_its_end_was_told_goes_on(node: Node) -> None:
    """Kafka took nothing meanwhile. To begin anew then would be to wait for a program to start."""
    await node.observe()
    node.runtime.exited.add(ID)
    node.runtime.ended_at[ID] = Ended(node.now_us + 1, 1)
    await node.turn(cut=False)
    node.runtime.exited.clear()
    await node.turn(made(12), file_used(b"/bin/again", 12, use=Use.EXECUTED), cut=False)
    (batch,) = await node.turn()
    assert [access.path for access in batch.accesses] == [b"/bin/again"]
    assert (batch.exit_code, batch.lost, batch.observed_to_us) == (None, 0, node.now_us)
    (batch,) = await node.turn(seconds=60)
    assert batch.lost == 0


async def test_what_is_lost_while_one_is_stopped_takes_nothing_of_its_first_life_away(
    node: Node,
) -> None:
    await _ended(node)
    until_us = node.publisher.batches[-1].observed_to_us
    node.collector._tracker.lose({(ANY_CGROUP, "probe_busy"): 1})
    await node.turn()
    node.runtime.exited.clear()
    (again,) = await node.turn(made(12), file_used(INIT, 12, use=Use.EXECUTED))
    assert (again.observed_from_us, again.loss_reasons) == (until_us, ("probe_busy",))
    assert again.started_at_us < until_us


async def test_the_end_of_one_that_is_not_listed_any_more_stays_what_it_was(node: Node) -> None:
    await node.observe()
    node.runtime.exited.add(ID)
    node.runtime.ended_at[ID] = ended = Ended(node.now_us + 1, 0)
    await node.turn(cut=False)
    node.runtime.listed.clear()
    await node.turn(seconds=150, cut=False)
    for _ in range(2):
        await node.collector._keep_house()
    await node.turn(seconds=150, cut=False)
    (batch,) = await node.turn()
    assert (batch.observed_to_us, batch.exit_code, batch.lost) == (ended.at_us, 0, 0)


async def test_what_one_does_after_the_runtime_was_asked_waits_until_it_is_again(
    node: Node,
) -> None:
    node.runtime.listed.append(WEB)
    node.runtime.there[WEB] = container(WEB, node.now_us)
    await node.turn(seconds=3)
    late = CgroupEvent(11, "/plain/web", node.now_us + SECOND + 5)
    started = file_used(INIT, 11, use=Use.EXECUTED)
    assert await node.turn(late, started) == []
    (batch,) = await node.turn()
    assert [access.path for access in batch.accesses] == [INIT]


async def test_what_one_by_a_name_uses_after_it_was_taken_for_ended_is_its_own(
    node: Node,
) -> None:
    """containerd leaves a task out of its list whose shim is slow to answer."""
    node.runtime.own = "/plain/"
    node.runtime.listed.append(WEB)
    node.runtime.there[WEB] = container(WEB, node.now_us)
    await node.turn(seconds=3)
    here = CgroupEvent(11, "/plain/web", node.now_us + 5)
    await node.turn(here, file_used(INIT, 11, use=Use.EXECUTED))
    node.runtime.exited.add(WEB)
    await node.turn()
    await node.turn(seconds=11)
    assert node.collector._tracker.containers == set()
    await node.turn(file_used(b"/bin/late", 11, use=Use.EXECUTED))
    node.runtime.ended_at[WEB] = Ended(node.now_us + 1, 0)
    (again,) = await node.turn()
    assert [access.path for access in again.accesses] == [b"/bin/late"]


async def test_what_ends_after_the_clock_was_set_back_has_not_ended_before_the_observation(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is at boot, where the machine's own clock was ahead."""
    await node.observe()
    monkeypatch.setattr(service, "_monotonic_us", lambda: node.now_us + 60 * SECOND)
    await node.turn(seconds=-60)
    node.runtime.listed.append(OTHER_ID)
    node.runtime.there[OTHER_ID] = container(OTHER_ID, node.now_us + 5)
    node.runtime.exited.add(OTHER_ID)
    node.runtime.ended_at[OTHER_ID] = Ended(node.now_us + SECOND, 0)
    batches = await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11, use=Use.EXECUTED))
    batches += await node.turn()
    of_it = [batch for batch in batches if batch.container_id == OTHER_ID]
    assert [access.path for batch in of_it for access in batch.accesses] == [b"/bin/app"]


async def test_what_the_probe_the_spool_and_the_clock_lost_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.observe()
    monkeypatch.setattr(node.source, "losses", lambda: Losses({(10, "ring_buffer"): 3}))
    assert _lost(await node.turn()) == {("ring_buffer", 3)}
    node.publisher.lost_rounds = 2
    assert _lost(await node.turn()) == {("spool", 2)}
    monkeypatch.setattr(service, "_monotonic_us", lambda: node.now_us - 60 * SECOND)
    assert _lost(await node.turn(seconds=61)) == {("clock_step", 1)}
    assert _lost(await node.turn()) == set()


@pytest.mark.parametrize("listed", [False, True])
async def test_how_one_ended_is_waited_for_as_events_come_later_than_listings(
    node: Node, *, listed: bool
) -> None:
    """What it did is told meanwhile, and no time is claimed in which it was gone."""
    await node.observe()
    await node.turn()
    _gone(node, listed=listed)
    missed_us = node.now_us + SECOND
    (used,) = await node.turn(file_used(b"/bin/late", 10))
    (silent,) = await node.turn(seconds=3)
    assert [access.path for access in used.accesses] == [b"/bin/late"]
    assert (used.observed_to_us, used.exit_code) == (missed_us, None)
    assert silent.observed_to_us - missed_us == 1, "an interval has some length"
    node.runtime.listed = [ID]
    node.runtime.exited.add(ID)
    node.runtime.ended_at[ID] = Ended(missed_us - 5, 3)
    (last,) = await node.turn(seconds=3)
    assert (last.exit_code, last.accesses, last.lost) == (3, (), 0)
    assert last.observed_to_us - missed_us == 2
    assert await node.turn() == []


@pytest.mark.parametrize("listed", [False, True])
async def test_one_of_which_nobody_tells_how_it_ended_is_waited_for_no_longer(
    node: Node, *, listed: bool
) -> None:
    await node.observe()
    _gone(node, listed=listed)
    for _ in range(10):
        assert [batch.exit_code for batch in await node.turn()] == [None]
    await node.turn()
    assert node.collector._tracker.containers == set()
    assert await node.turn() == []


async def test_nor_is_it_when_the_clock_is_set_back(node: Node) -> None:
    await node.observe()
    _gone(node, listed=True)
    await node.turn()
    await node.turn(seconds=-30)
    assert node.collector._tracker.containers == set()


async def test_one_that_was_left_out_of_a_listing_goes_on(node: Node) -> None:
    await node.observe()
    _gone(node, listed=False)
    await node.turn()
    (missed,) = await node.turn(seconds=3)
    node.runtime.listed = [ID]
    (again,) = await node.turn(file_used(b"/bin/late", 10), seconds=3)
    assert (again.observed_from_us, again.sequence) == (missed.observed_to_us, missed.sequence + 1)
    assert (again.observed_to_us, again.lost) == (node.now_us, 0)
    _gone(node, listed=False)
    await node.turn(seconds=9)
    assert node.collector._tracker.containers == {ID}, "it is missed anew"


def _gone(node: Node, *, listed: bool) -> None:
    if listed:
        node.runtime.exited.add(ID)
    else:
        node.runtime.listed.remove(ID)


class Listing:
    """A runtime that answers once."""

    def __init__(self) -> None:
        self.answers = iter([[Listed(WEB, started=True, exited=False)]])

    async def list(self) -> list[Listed]:
        try:
            return next(self.answers)
        except StopIteration:
            raise RuntimeUnavailableError("away") from None


async def test_what_a_runtime_said_before_is_no_news() -> None:
    both: list[Any] = [Listing(), Runtime()]
    runtimes = Runtimes(both)
    assert [one.fresh for one in await runtimes.list()] == [True]
    assert [one.fresh for one in await runtimes.list()] == [False]
