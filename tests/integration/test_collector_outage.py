"""The whole collector while its broker is away, or it is killed: what the spool keeps."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from services.collector import privileges
from services.collector.publish import Publisher
from services.collector.settings import CollectorSettings
from services.collector.spool import Spool
from services.common.metrics import EVENTS
from services.common.topics import ensure_topics
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.ports import free_port
from tests.support import kafka_broker
from tests.support.collecting import (
    WAIT_SECONDS,
    Broker,
    Records,
    assert_contiguous,
    collecting,
    eventually,
    in_order,
)
from tests.support.kafka_broker import ApacheKafka

pytestmark = pytest.mark.real

OUTAGE_SECONDS = float(os.environ.get("VEXSTREAM_TEST_OUTAGE_SECONDS", "3"))
"""How long the broker is away: 600 for the ten minutes that the spool is to bridge."""


def _require_lasting(broker: Broker) -> ApacheKafka:
    if not isinstance(broker, ApacheKafka):
        pytest.skip("needs a broker that keeps its data: " + str(kafka_broker.missing()))
    return broker


async def test_nothing_is_lost_while_the_broker_is_away(
    node: Containerd, broker: Broker, tmp_path: Path
) -> None:
    lasting = _require_lasting(broker)
    container = node.run(PROBE, "outage")
    opened: set[bytes] = set()
    async with collecting(node, broker, "outage.", spool_dir=tmp_path) as records:
        await eventually(lambda: bool(records.batches[container.id]))
        await asyncio.to_thread(lasting.stop)
        end = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < end:
            name = f"/opt/opened-{len(opened)}"
            await asyncio.to_thread(node.exec, container, ["/bin/sh", "-c", f": > {name}"])
            opened.add(name.encode())
        await eventually(lambda: len(_rounds(tmp_path)) > 2)
        assert not opened & set(records.paths(container))
        await asyncio.to_thread(lasting.start)
        again = time.monotonic()
        allowed = WAIT_SECONDS + OUTAGE_SECONDS
        await eventually(lambda: not any(tmp_path.glob("*.round")), allowed)
        await eventually(lambda: opened <= set(records.paths(container)), allowed)
        caught_up = time.monotonic() - again
    batches = in_order(records.batches[container.id])
    assert_contiguous(batches)
    assert not any(batch.lost for batch in batches)
    print(f"{len(opened)} files opened in {OUTAGE_SECONDS:.0f} s without a broker, {len(batches)} "
          f"batches, nothing lost, all sent {caught_up:.0f} s after its return")  # fmt: skip
    node.stop(container)


async def test_what_is_lost_when_the_spool_is_full_is_counted(
    node: Containerd, broker: Broker, tmp_path: Path
) -> None:
    lasting = _require_lasting(broker)
    container = node.run(PROBE, "full")
    name = f"/opt/{'x' * 200}"

    def opens(first: int, last: int) -> None:
        loop = f"n={first}; while [ $n -le {last} ]; do : > {name}$n; n=$((n+1)); done"
        assert node.exec(container, ["/bin/sh", "-c", loop]).exit_code == 0

    small = {"spool_dir": tmp_path, "spool_mib": 1, "max_pending_accesses": 6000}
    async with collecting(node, broker, "full.", **small) as records:
        await eventually(lambda: bool(records.batches[container.id]))
        await asyncio.to_thread(lasting.stop)
        await asyncio.to_thread(opens, 1, 10_000)
        await eventually(lambda: _full(tmp_path))
        read = EVENTS.labels("attributed")._value.get
        before = read()
        await asyncio.to_thread(opens, 10_001, 18_000)
        await eventually(lambda: read() - before >= 8_000)  # more than may be pending
        await asyncio.to_thread(lasting.start)
        await eventually(lambda: records.evidence(container).containers[container.id].lost() > 0)
    batches = in_order(records.batches[container.id])
    assert_contiguous(batches)
    known = records.evidence(container).containers[container.id]
    assert {reason for batch in batches for reason in batch.loss_reasons} == {"publish"}
    seen = {path for path in records.paths(container) if path.startswith(name.encode())}
    assert len(seen) + known.lost() >= 18_000, "every open has arrived or is counted"
    node.stop(container)


async def test_kill_9_loses_no_round_that_was_spooled(
    node: Containerd, broker: Broker, tmp_path: Path
) -> None:
    container = node.run(PROBE, "killed")
    variables = {
        "VEXSTREAM_CRI_ENDPOINT": node.endpoint,
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "VEXSTREAM_SPOOL_DIR": str(tmp_path),
        "VEXSTREAM_BATCH_INTERVAL_SECONDS": "0.2",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.collector", env={**os.environ, **variables}
    )
    await eventually(lambda: len(_rounds(tmp_path)) > 2)
    node.exec(container, ["/bin/cat", "/etc/debian_version"])
    await eventually(lambda: any(b"/etc/debian_version" in r for r in _rounds(tmp_path)))
    assert _capabilities(process.pid) == privileges.KEPT
    process.kill()
    await process.wait()

    settings = CollectorSettings(
        kafka_bootstrap_servers=broker.bootstrap, topic_prefix="killed.", partitions=2
    )
    await ensure_topics(settings)
    publisher = Publisher(settings, Spool(tmp_path, 1 << 30))
    publisher.start()
    assert await publisher.flush(WAIT_SECONDS)
    await publisher.close()
    records = Records(settings)
    reader = asyncio.create_task(records.read())
    await eventually(lambda: b"/etc/debian_version" in records.paths(container))
    reader.cancel()
    assert_contiguous(records.batches[container.id])
    node.stop(container)


def _capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("CapEff:")[1].split()[0], 16)


def _full(folder: Path) -> bool:
    return sum(map(len, _rounds(folder))) >= 1 << 20


def _rounds(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.round"))]
