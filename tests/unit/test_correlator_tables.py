"""Where the tables are kept, and when a record is acknowledged."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from faust.stores import memory, rocksdb
from faust.types import TP

from services.correlator.fence import Fence
from services.correlator.lease import Lease
from services.correlator.settings import CorrelatorSettings
from services.correlator.tables import DurableTable, Receipts, faust_app, table


class Table:
    """Changelog entries that the test confirms."""

    def __init__(self) -> None:
        self.unconfirmed: dict[str, list[asyncio.Future[None]]] = {}

    def write(self, topic: str) -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        self.unconfirmed.setdefault(topic, []).append(future)
        return future


class Event:
    """A record; says in which order records were acknowledged."""

    def __init__(self, offset: int, acked: list[int], topic: str = "t") -> None:
        self.message: Any = self
        self.topic, self.tp, self._offset, self._acked = topic, TP(topic, 0), offset, acked

    def ack(self) -> None:
        self._acked.append(self._offset)


async def test_a_record_waits_for_its_own_entries_and_for_those_before_it() -> None:
    held, acked, failures = Table(), list[int](), list[BaseException]()
    receipts = Receipts([held], failures.append)
    first = held.write("t")
    other = held.write("u")
    receipts.acknowledge(Event(1, acked))
    receipts.acknowledge(Event(2, acked))
    await asyncio.sleep(0)
    assert acked == []
    other.set_result(None)
    receipts.acknowledge(Event(7, acked, "u"))
    await asyncio.sleep(0)
    assert acked == [7]
    first.set_result(None)
    await asyncio.sleep(0)
    assert acked == [7, 1, 2]
    assert failures == []


async def test_a_record_whose_entry_was_refused_is_never_acknowledged() -> None:
    held, acked, failures = Table(), list[int](), list[BaseException]()
    receipts = Receipts([held], failures.append)
    entry = held.write("t")
    receipts.acknowledge(Event(1, acked))
    receipts.acknowledge(Event(2, acked))
    entry.set_exception(ConnectionError("refused"))
    await asyncio.sleep(0)
    assert acked == []
    assert [str(error) for error in failures] == ["refused"]


@pytest.mark.parametrize(
    ("on_disk", "store"), [(True, rocksdb.Store), (False, memory.Store)], ids=["disk", "memory"]
)
def test_tables_lie_where_they_should(tmp_path: Path, on_disk: bool, store: type) -> None:
    settings = CorrelatorSettings(state_dir=tmp_path)
    made = table(faust_app(settings, Fence(Lease())), "evidence", settings, on_disk=on_disk)
    assert isinstance(made, DurableTable)
    data: Any = made.data
    assert isinstance(made.data, store)
    if on_disk:
        assert data.use_rocksdict
