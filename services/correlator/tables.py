"""The Faust app and its tables, and what makes them safe.

Faust commits the offset of a record without looking whether the changelog has what came of it, and
RocksDB may hold what the changelog never got: after a crash both would lose evidence that nobody
misses, and an unused package would be one that was used. So a record is acknowledged only when the
broker has confirmed its changelog entries, and the local database begins empty at every start: it
spares memory, and the changelog is the truth.
"""

import shutil
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faust
import structlog

from services.common.kafka import tls_context
from services.common.settings import credentials
from services.correlator.fence import Fence
from services.correlator.lease import TERMS
from services.correlator.settings import CorrelatorSettings
from services.correlator.transport import FencedApp

log = structlog.get_logger()

TABLES = ("evidence", "scans", "published")

_ROCKSDB = {
    # One database a table and partition: the defaults add up to gigabytes (2 GiB of block cache
    # each).
    "block_cache_size": 8 * 1024**2,
    "write_buffer_size": 4 * 1024**2,
    "max_write_buffer_number": 2,
    "max_open_files": 128,
}


class DurableTable(faust.Table[bytes, bytes]):
    """A table that keeps the futures of its changelog entries until they are asked for, by the
    topic of the record that is being handled: agents take turns in the middle of a record."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unconfirmed: defaultdict[str, list[Any]] = defaultdict(list)

    def send_changelog(self, *args: Any, **options: Any) -> Any:
        """Sends an entry, and remembers that it is under way."""
        future = super().send_changelog(*args, **options)
        app: Any = self.app
        app.fence.track(future)
        event = faust.current_event()
        self.unconfirmed[event.message.topic if event else ""].append(future)
        return future


@dataclass(slots=True)
class _Handled:
    event: Any
    left: int
    """Changelog entries that are not confirmed."""


def _drain(queue: deque[_Handled]) -> None:
    while queue and queue[0].left == 0:
        queue.popleft().event.ack()


class Receipts:
    """Acknowledges records once the changelog has what came of them, in their order: where Faust
    has noticed a gap, it commits up to the last acknowledged record, whatever lies between."""

    def __init__(self, tables: list[Any], failed: Callable[[BaseException], None]) -> None:
        self._tables = tables
        self._failed = failed
        self._handled: defaultdict[Any, deque[_Handled]] = defaultdict(deque)

    def acknowledge(self, event: Any) -> None:
        """The record is handled: its entries are what is unconfirmed now."""
        waiting = self.take(event.message.topic)
        queue = self._handled[event.message.tp]
        handled = _Handled(event, len(waiting))
        queue.append(handled)

        def confirmed(future: Any) -> None:
            if future.cancelled() or future.exception() is not None:
                self._failed(future.exception() or ConnectionError("cancelled"))
                return
            handled.left -= 1
            _drain(queue)

        for future in waiting:
            future.add_done_callback(confirmed)
        _drain(queue)

    def take(self, topic: str = "") -> list[Any]:
        """The entries under way because of a record of this topic, or of none: to be waited for
        by the caller."""
        return [future for table in self._tables for future in table.unconfirmed.pop(topic, ())]


def faust_app(settings: CorrelatorSettings, fence: Fence) -> FencedApp:
    """The app, with an empty local database."""
    shutil.rmtree(settings.state_dir / "tables", ignore_errors=True)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    servers = settings.kafka_bootstrap_servers.split(",")
    app = FencedApp(
        settings.correlator_group,
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=_credentials(settings),
        store="rocksdb://",
        datadir=str(settings.state_dir),
        tabledir=str(settings.state_dir / "tables"),
        Table=DurableTable,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=TERMS.session,
        broker_heartbeat_interval=TERMS.heartbeat,
        broker_rebalance_timeout=TERMS.rebalance,
        producer_compression_type="zstd",
        producer_acks=-1,
        web_enabled=False,
        stream_wait_empty=False,
    )
    app.fence = fence
    return app


def changelogs(settings: CorrelatorSettings) -> list[str]:
    """The topics of all tables, as Faust names them."""
    return [f"{settings.correlator_group}-{name}-changelog" for name in TABLES]


def table(app: faust.App, name: str, settings: CorrelatorSettings, *, on_disk: bool) -> Any:
    """A table of bytes. Those in memory can be written outside an agent too."""
    # Copied: Faust takes options out of the dictionary that it is given. A store without a path is
    # no store to it: then the app's is taken, which is on disk and needs to have none.
    placed: dict[str, Any] = {"options": dict(_ROCKSDB)} if on_disk else {"store": "memory:///"}
    return app.Table(
        name,
        key_type=bytes,
        value_type=bytes,
        partitions=settings.partitions,
        use_partitioner=not on_disk,
        **placed,
    )


def _credentials(settings: CorrelatorSettings) -> Any:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = tls_context(settings) if protocol.endswith("SSL") else None
    if not protocol.startswith("SASL"):
        return faust.SSLCredentials(context)
    username, password = credentials(settings)
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=username,
        password=password,
        ssl_context=context,
    )
