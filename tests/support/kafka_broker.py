"""Apache Kafka itself, as one KRaft node out of the jars that kafka-pom.xml names."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from services.local.broker import BrokerError, answers
from services.local.ports import LOOPBACK, free_port
from services.local.process import Daemon, MissingPrerequisiteError, Running

LIB_VARIABLE = "VEXSTREAM_KAFKA_LIB"
LIB = Path(__file__).parents[2] / ".cache/kafka/lib"
READY_SECONDS = 60.0
FORMAT_SECONDS = 60
STOP_SECONDS = 20.0

_TOOLS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}
_CLUSTER_ID = "dmV4c3RyZWFtLXRlc3RzMQ"
"""16 bytes in URL-safe base64, as the storage tool wants them."""


def missing() -> str | None:
    """Why Apache Kafka cannot run here, None when it can."""
    if shutil.which("java") is None:
        return "Java is not installed"
    if not any(_lib().glob("kafka_2.13-*.jar")):
        return (
            f"{_lib()} holds no Kafka; fetch it as tests/support/kafka-pom.xml says,"
            f" or set {LIB_VARIABLE}"
        )
    return None


class ApacheKafka(Running):
    """One broker and controller; keeps its port and its data over ``stop`` and ``start``."""

    format_options: tuple[str, ...] = ()
    """What the storage tool is told besides."""

    def __init__(self, directory: Path) -> None:
        """``directory`` takes data, configuration and log."""
        self.port = free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self._directory = directory
        self._properties = directory / "server.properties"
        self._daemon = Daemon(
            "kafka",
            [*_java("512m"), "kafka.Kafka", str(self._properties)],
            log=directory / "kafka.log",
            env={**os.environ, "LOG_DIR": str(directory)},
        )

    def start(self) -> None:
        """Formats the storage at the first start; returns when the broker answers.

        Raises:
            MissingPrerequisiteError: there is no Java, or there are no jars.
            BrokerError: the storage cannot be formatted.
            DaemonError: the broker died, or did not answer in time.
        """
        reason = missing()
        if reason:
            raise MissingPrerequisiteError(f"no Apache Kafka: {reason}")
        if not self._properties.exists():
            self._format()
        self._daemon.start()
        self._daemon.wait_ready(lambda: answers(self.port), READY_SECONDS)

    def stop(self) -> None:
        """Ends the broker in order; the data stay."""
        self._daemon.stop(STOP_SECONDS)

    def kill(self) -> None:
        """Ends the broker as a crash would."""
        self._daemon.stop(0)

    def tools(self, folder: Path) -> Path:
        """A folder of commands as Apache Kafka's distribution has them, made of its own classes."""
        if not any(_lib().glob("kafka-tools-*.jar")):
            raise MissingPrerequisiteError(
                f"no tools of Apache Kafka in {_lib()}: scripts/bootstrap test fetches them"
            )
        folder.mkdir()
        for name, main in _TOOLS.items():
            command = shlex.join([*_java("128m"), main])
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def _settings(self) -> dict[str, str]:
        controller = f"{LOOPBACK}:{free_port()}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._directory / "data"),
            "offsets.topic.replication.factor": "1",
            # 50 partitions by default, each with its files: slow to create and to close.
            "offsets.topic.num.partitions": "4",
            # After a crash the controller keeps the broker out until its session has expired.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }

    def _format(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        draft = self._properties.with_suffix(".draft")
        draft.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        done = subprocess.run(
            [*_java("128m"), "kafka.tools.StorageTool", "format", "--ignore-formatted",
             "-t", _CLUSTER_ID, "-c", str(draft), *self.format_options],
            capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BrokerError(f"Kafka's storage cannot be formatted:\n{done.stderr[-2000:]}")
        draft.rename(self._properties)


def _java(heap: str) -> list[str]:
    return [
        "java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{_lib()}/*",
    ]  # fmt: skip


def _lib() -> Path:
    return Path(os.environ.get(LIB_VARIABLE) or LIB)
