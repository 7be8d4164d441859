"""The collector's loop without a kernel and a runtime: what it asks for, and what it tells."""

from dataclasses import replace
from typing import Any

import pytest

from services.collector import service
from services.collector.errors import RuntimeUnavailableError
from services.collector.events import CgroupEvent
from services.collector.runtime import Listed
from services.collector.runtimes import Runtimes
from services.collector.source import Losses
from tests.unit.tracking import ID, IMAGE, INIT, OTHER_ID, SECOND, container, file_used
from tests.unit.turning import WEB, Node, Runtime, lost_in
from vexstream.evidence import Use
from vexstream.identity import Image


async def test_one_that_runs_and_of_which_nothing_is_heard_is_a_loss(node: Node) -> None:
    """Nothing of it is in any cgroup that is known: its silence is no evidence."""
    node.runtime.listed.append(ID)
    node.runtime.there[ID] = container(ID, node.now_us)
    await node.turn()
    assert ("cgroup_unknown", 1) in lost_in(await node.turn(seconds=40))


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


async def test_what_the_probe_the_spool_and_the_clock_lost_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.observe()
    monkeypatch.setattr(node.source, "losses", lambda: Losses({(10, "ring_buffer"): 3}))
    assert lost_in(await node.turn()) == {("ring_buffer", 3)}
    node.publisher.lost_rounds = 2
    assert lost_in(await node.turn()) == {("spool", 2)}
    monkeypatch.setattr(service, "_monotonic_us", lambda: node.now_us - 60 * SECOND)
    assert lost_in(await node.turn(seconds=61)) == {("clock_step", 1)}
    assert lost_in(await node.turn()) == set()


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
