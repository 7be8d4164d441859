"""Pods of several containers, and restarts of what watches them: the runtime, the collector."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from services.local import containerd_setup, image
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import File, ImageArchive
from services.local.process import Daemon
from tests.support.collecting import Broker, assert_contiguous, collecting, eventually
from vexstream.evidence import Use
from vexstream.identity import Workload

pytestmark = pytest.mark.real

OTHER = "localhost/vexstream/sidecar:1"


async def test_every_container_of_a_pod_is_observed_by_itself(
    node: Containerd, broker: Broker, probe_image: ImageArchive, image_cache: Path
) -> None:
    other = image.probe_image(image_cache, files={"/opt/other": File(b"x")}, name=OTHER)
    node.import_image(other.path, OTHER)
    reads = ["/bin/cat", "/etc/debian_version"]
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "pod.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        init = node.run(PROBE, "web", namespace="shop", args=reads)
        app = node.run(PROBE, "app", beside=init)
        sidecar = node.run(OTHER, "sidecar", beside=init, args=["/bin/sleep", "3600"])
        assert node.exec(app, ["/bin/cat", "/etc/os-release"]).exit_code == 0
        assert node.exec(sidecar, ["/bin/cat", "/opt/other"]).exit_code == 0
        ephemeral = node.run(OTHER, "debugger-x2x7q", beside=init, args=["/bin/cat", "/etc/passwd"])
        pod = {init: reads[1], app: "/usr/lib/os-release", sidecar: "/opt/other",
               ephemeral: "/etc/passwd"}  # fmt: skip
        await eventually(
            lambda: all(path.encode() in records.paths(one) for one, path in pod.items())
        )
    digests = {PROBE: probe_image.config_digest, OTHER: other.config_digest}
    for one in pod:
        batches = records.batches[one.id]
        assert_contiguous(batches)
        assert {batch.workload for batch in batches} == {Workload("shop", "web", one.name)}
        assert {batch.image.config_digest for batch in batches} == {digests[one.image]}
        known = records.evidence(one).containers[one.id]
        assert known.seen_whole_until() == batches[-1].observed_to_us
        assert known.lost() == 0
    assert b"/opt/other" not in records.paths(app)
    assert b"/usr/lib/os-release" not in records.paths(sidecar)
    node.stop(init)
    node.stop(witness)


async def test_a_restarted_collector_leaves_a_gap_and_seeds(
    node: Containerd, broker: Broker
) -> None:
    container = node.run(PROBE, "seen-twice")
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "twice.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        fresh = node.run(PROBE, "seen-from-its-start")
        await eventually(lambda: bool(records.batches[fresh.id]))
    run = records.batches[fresh.id][0].run
    node.exec(fresh, ["/bin/cat", "/etc/debian_version"])
    async with collecting(node, broker, "twice.") as records:
        await eventually(lambda: any(batch.run != run for batch in records.batches[fresh.id]))
        node.exec(fresh, ["/bin/cat", "/etc/passwd"])
        await eventually(lambda: b"/etc/passwd" in records.paths(fresh))
    # The first collector's last batch is read here alone: it was sent when that one stopped.
    first = [batch for batch in records.batches[fresh.id] if batch.run == run]
    again = [batch for batch in records.batches[fresh.id] if batch.run != run]
    assert again[0].observed_from_us > first[-1].observed_to_us
    assert b"/etc/debian_version" not in records.paths(fresh), "nobody was there to see it"
    assert records.paths(fresh)[b"/usr/bin/sleep"] & Use.SEEDED
    known = records.evidence(fresh).containers[fresh.id]
    assert known.seen_whole_until() == first[-1].observed_to_us, "it is whole until the gap only"
    for one in (container, witness, fresh):
        node.stop(one)


class Restartable(Daemon):
    """A containerd that can end alone, as in an upgrade: its containers go on."""

    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, daemon: Daemon) -> Self:
        return cls(daemon.name, daemon._argv, log=daemon.log, env=daemon._env)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, env=self._env, stdout=log, stderr=log)

    def stop(self, timeout_seconds: float = 10) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def restartable(
    monkeypatch: pytest.MonkeyPatch, short_tmp: Path, image_cache: Path, probe_image: ImageArchive
) -> Iterator[Containerd]:
    make: Callable[[Path, Path], Daemon] = containerd_setup.daemon
    monkeypatch.setattr(
        containerd_setup, "daemon", lambda state, socket: Restartable.of(make(state, socket))
    )
    with Containerd(short_tmp / "c", cache=image_cache) as containerd:
        containerd.import_image(probe_image.path, PROBE)
        yield containerd


async def test_a_restarted_runtime_interrupts_nothing(
    restartable: Containerd, broker: Broker, tmp_path: Path
) -> None:
    beat = 'n=0; while :; do : > "/opt/beat$n"; n=$((n + 1)); sleep 0.2; done'
    daemon = restartable._daemon
    assert daemon is not None
    witness = restartable.run(PROBE, "witness")
    async with collecting(restartable, broker, "restart.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        lasting = restartable.run(PROBE, "lasting", args=["/bin/sh", "-c", beat])
        await eventually(lambda: b"/opt/beat1" in records.paths(lasting))
        await asyncio.to_thread(daemon.stop)
        seen = len(records.paths(lasting))
        await eventually(lambda: len(records.paths(lasting)) > seen + 5)
        daemon.start()
        await asyncio.to_thread(daemon.wait_ready, restartable._ready, 60.0)
        later = await asyncio.to_thread(restartable.run, PROBE, "later")
        await eventually(lambda: b"/usr/bin/sleep" in records.paths(later))
        pid = restartable.pid(lasting)
        os.kill(pid, signal.SIGKILL)
        settled = len(records.batches[later.id])
        await eventually(lambda: len(records.batches[later.id]) > settled + 3)
    beats = sorted(
        int(path[9:]) for path in records.paths(lasting) if path.startswith(b"/opt/beat")
    )
    assert beats == list(range(len(beats))), "none is missing"
    for one in (lasting, later):
        assert_contiguous(records.batches[one.id])
        assert records.evidence(one).containers[one.id].lost() == 0
    first = records.batches[later.id][0]
    assert first.observed_from_us == first.started_at_us
