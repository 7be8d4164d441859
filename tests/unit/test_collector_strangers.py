"""What the collector makes of uses by containers of which no runtime told, or not in time."""

import pytest

from services.collector import service
from services.collector.events import CgroupEvent
from tests.unit.tracking import ID, INIT, OTHER_ID, SECOND, container, file_used, made
from tests.unit.turning import WEB, Node, forget_cgroups, lost_in
from vexstream.evidence import Use


async def test_what_one_used_that_was_listed_and_gone_when_asked_for_is_a_loss(node: Node) -> None:
    await node.observe()
    node.runtime.listed.append(OTHER_ID)
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    node.runtime.listed.remove(OTHER_ID)
    assert lost_in(await node.turn(seconds=3)) == set(), "it is asked for once more"
    assert lost_in(await node.turn()) == {("container_unknown", 1)}


async def test_one_of_which_nobody_ever_spoke_is_none_of_ours(node: Node) -> None:
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    for _ in range(3):
        assert lost_in(await node.turn(seconds=3)) == set()


async def test_what_the_runtime_owns_and_does_not_list_is_a_loss_once_it_answers(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    node.runtime.answers = False
    for _ in range(3):
        assert lost_in(await node.turn(seconds=3)) == set(), "it may be slow to list it"
    node.runtime.answers = True
    assert lost_in(await node.turn()) == {("container_unknown", 1)}
    assert lost_in(await node.turn()) == set()


async def test_a_runtime_that_does_not_answer_for_long_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    node.runtime.answers = False
    monkeypatch.setattr(service, "_DECIDE_SECONDS", 0.0)
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    assert lost_in(await node.turn(seconds=3)) == {("container_unknown", 1)}


async def test_one_that_is_listed_late_has_its_loss_alone(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    await node.turn(seconds=3)
    await node.observe(OTHER_ID)
    batches = await node.turn(file_used(INIT, 11, use=Use.EXECUTED))
    assert lost_in([batch for batch in batches if batch.container_id == ID]) == set()
    assert node.collector._strange == 0
    (batch,) = (one for one in batches if one.container_id == OTHER_ID)
    assert "container_unknown" in batch.loss_reasons


async def test_what_was_given_up_is_told_once(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), file_used(b"/bin/app", 11))
    await node.turn(seconds=3)
    assert lost_in(await node.turn()) == {("container_unknown", 1)}
    await forget_cgroups(node)
    for _ in range(2):
        assert lost_in(await node.turn()) == set()


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
    assert ("container_unknown", 1) in lost_in(await node.turn())


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
    assert ("container_unknown", 1) in lost_in(batches)
    for _ in range(2):
        batches = await node.turn(file_used(b"/bin/more", 11))
        assert lost_in(batches + await node.turn(seconds=3)) == {("container_unknown", 1)}
        assert lost_in(await node.turn()) == set()
