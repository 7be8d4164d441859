"""Containers of pods that CRI lists at no time, and sandboxes, which are no containers."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from cri_api.v1 import api_pb2 as cri

from services.collector.errors import NotOfferedError
from services.collector.pauses import Pauses
from services.collector.pods import PodRuntime
from services.collector.runtime import CriRuntime, Told
from services.collector.tracker import Tracker
from services.local import containerd_cgroups
from services.local.containerd import Container, Containerd
from services.local.containerd_pods import pod_config
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from tests.support.busy import Busy
from tests.support.collecting import Broker, collecting, eventually, run_and_remove
from vexstream.identity import Workload

pytestmark = pytest.mark.real

_READS = ["/bin/cat", "/etc/debian_version"]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Busy:
    return Busy(monkeypatch, CriRuntime, "list", "sandboxes")


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Cgroups that no container was found for, with their uses."""
    found: Counter[str] = Counter()
    ask = Tracker.strangers

    def asked(of: Tracker) -> Counter[str]:
        more = ask(of)
        found.update(more)
        return more

    monkeypatch.setattr(Tracker, "strangers", asked)
    return found


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch, strangers: Counter[str]) -> set[str]:
    """Cgroups in which a sandbox's program ran; those of which it is not known are strangers."""
    found: set[str] = set()
    judge = Pauses.strange

    def judged(of: Pauses, owns: Callable[[str], bool]) -> dict[str, int]:
        found.update(of._used)
        strange = judge(of, owns)
        strangers.update(strange)
        return strange

    monkeypatch.setattr(Pauses, "strange", judged)
    return found


async def _come_and_go(node: Containerd, name: str) -> Container:
    return await asyncio.to_thread(run_and_remove, node, name, _READS)


async def test_a_container_that_cri_never_lists_is_observed_whole(
    node: Containerd, broker: Broker, probe_image: ImageArchive, busy: Busy
) -> None:
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "unlisted.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        async with busy.while_asked():
            brief = await _come_and_go(node, "brief")
        told = records.batches[brief.id]
        await eventually(lambda: bool(told) and told[-1].exit_code is not None)
        node.stop(witness)
    assert {batch.image.config_digest for batch in told} == {probe_image.config_digest}
    assert {batch.workload for batch in told} == {Workload("default", "brief", "brief")}
    assert {b"/usr/bin/cat", b"/etc/debian_version"} <= records.paths(brief).keys()
    assert told[-1].exit_code == 0
    assert not any(batch.lost for batch in [*told, *records.batches[witness.id]])


class Sandbox:
    """A pod without a container."""

    def __init__(self, node: Containerd) -> None:
        self._node, self._uid = node, str(uuid.uuid4())
        pod = pod_config("alone", "default", self._uid, node.state / "logs" / self._uid)
        made = node._runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=pod))
        self.id = made.pod_sandbox_id
        self.cgroup = f"{containerd_cgroups.parent(self._uid)}/{self.id}"

    def remove(self) -> None:
        self._node._remove_pod(self.id)
        containerd_cgroups.remove({self._uid})


async def _no_stream(runtime: PodRuntime) -> AsyncIterator[Told]:
    raise NotOfferedError("no stream")
    yield


async def test_without_a_stream_what_it_used_is_a_loss_and_what_a_sandbox_used_is_none(
    node: Containerd, broker: Broker, busy: Busy, strangers: Counter[str],
    paused: set[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(PodRuntime, "_told", _no_stream)
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "backstop.", hold_seconds=2) as records:
        told = records.batches[witness.id]
        await eventually(lambda: bool(told))
        listed = await asyncio.to_thread(Sandbox, node)
        await eventually(lambda: listed.cgroup in paused)
        more = len(told) + 3
        await eventually(lambda: len(told) > more)
        async with busy.while_asked():
            brief = await asyncio.to_thread(Sandbox, node)
            await asyncio.to_thread(brief.remove)
            container = await _come_and_go(node, "brief")
        await eventually(lambda: brief.cgroup in paused)
        # Other tests have pods on this machine too, which are unknown here.
        await eventually(lambda: container.id in _ids(strangers))
        more = len(told) + 3
        await eventually(lambda: len(told) > more)
        await asyncio.to_thread(listed.remove)
        node.stop(witness)
    assert brief.id not in _ids(strangers)
    assert {reason for batch in told for reason in batch.loss_reasons} == {"container_unknown"}
    assert sum(batch.lost for batch in told) >= _ids(strangers)[container.id]


def _ids(strangers: Counter[str]) -> dict[str, int]:
    return {path.rpartition("/")[2]: uses for path, uses in strangers.items()}
