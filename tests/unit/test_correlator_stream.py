"""The stream of a worker asks again where a partition seems to be shorter than what was read."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from faust.types import TP

from services.correlator.settings import CorrelatorSettings
from services.correlator.stream import Stream

PLACE = TP("vexstream.file-access", 0)


def _stream(ends: Iterator[int]) -> Stream:
    async def highwaters(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, next(ends))

    app: Any = SimpleNamespace(consumer=SimpleNamespace(highwaters=highwaters))
    stream = Stream(CorrelatorSettings(), app, Mock(), Mock(), Mock(), Mock(), Mock())
    stream._continuity.begin({(PLACE.topic, PLACE.partition): 7}, {})
    return stream


@pytest.mark.parametrize(
    ("told", "short"), [([7], False), ([8], False), ([6, 7], False), ([6, 6, 6], True)]
)
def test_a_partition_is_short_when_the_broker_repeats_it(told: list[int], short: bool) -> None:
    left = iter(told)
    ends, found = asyncio.run(_stream(left)._ends([PLACE]))
    assert ends == {PLACE: told[-1]}
    assert bool(found) == short
    assert not list(left), "it was asked as often as it had to be"
