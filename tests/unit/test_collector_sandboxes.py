"""Sandboxes of pods that nobody told of, and what only looks like one."""

from typing import Any

import pytest

from services.collector.events import RawEvent
from services.collector.pauses import Pauses
from tests.unit.tracking import OTHER_ID, file_used, made
from tests.unit.turning import Node, forget_cgroups, lost_in
from vexstream.evidence import Use

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
    assert lost_in(await node.turn()) == set()


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
    assert lost_in(await node.turn()) == {("container_unknown", 1)}


async def test_as_long_as_no_sandbox_was_told_of_any_may_be_a_container(node: Node) -> None:
    node.runtime.own = OTHER_ID
    await node.observe()
    await node.turn(made(11, OTHER_ID), _pause(11, 7))
    await node.turn(seconds=3)
    assert lost_in(await node.turn()) == {("container_unknown", 1)}


def test_where_each_sandbox_has_a_copy_the_last_ones_are_known() -> None:
    pauses = Pauses()
    for inode in range(1, 1500):
        pauses.add({f"/told/{inode}": {inode}})
        assert not pauses.strange(lambda _: False)
    pauses.add({"/early": {9}, "/late": {1499, 1400}, "/both": {9, 1499}})
    assert pauses.strange(lambda _: True) == {"/early": 1, "/both": 1}


async def test_nor_is_it_when_its_cgroup_is_gone_and_what_it_used_was_given_up_before(
    node: Node,
) -> None:
    await _sandbox_is_told_of(node)
    await node.turn(made(11, OTHER_ID), _pause(11, 7))
    await node.turn(seconds=3)
    await forget_cgroups(node)
    for _ in range(2):
        assert lost_in(await node.turn()) == set()
