"""How a container ends, and what comes after its end: it is told once, and as it was."""

import pytest

from services.collector import service
from services.collector.events import CgroupEvent, RawEvent
from services.collector.runtime import Ended
from services.collector.source import ANY_CGROUP
from tests.unit.tracking import ID, INIT, OTHER_ID, SECOND, container, file_used, made
from tests.unit.turning import WEB, Node, has_ended
from vexstream.evidence import Use


def _run_again(node: Node, at_us: int) -> tuple[RawEvent, ...]:
    """The container of the test had ended, and has run once more since then."""
    node.runtime.ended_at[ID] = Ended(at_us, 0)
    return (made(12), file_used(b"/bin/late", 12, use=Use.EXECUTED))


async def test_one_that_ran_again_and_ended_before_it_was_listed_has_what_it_used(
    node: Node,
) -> None:
    """``docker start`` of a job that takes a moment: it is listed as ended before and after."""
    await has_ended(node)
    assert await node.turn(*_run_again(node, node.now_us + 1)) == []
    (again,) = await node.turn()
    assert [access.path for access in again.accesses] == [b"/bin/late"]
    assert (again.container_id, again.lost) == (ID, 0)
    assert await node.turn() == []


async def test_what_it_used_then_is_its_loss_when_it_cannot_be_told(node: Node) -> None:
    await has_ended(node)
    await node.turn(*_run_again(node, node.now_us + 1))
    node.runtime.answers = False
    for _ in range(3):
        await node.turn(seconds=3)
    node.runtime.answers = True
    batches = await node.turn() + await node.turn()
    assert [batch.container_id for batch in batches if batch.lost] == [ID]


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
    await has_ended(node)
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
