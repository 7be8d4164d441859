"""The whole collector: real containers in, records on a real broker out."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from services.collector.annotations import LEARNING_PERIOD
from services.collector.cluster import BARE, find
from services.collector.hostid import host_name
from services.collector.settings import CollectorSettings
from services.common.metrics import UNNAMED_CONTAINERS
from services.local import image
from services.local.containerd import Containerd
from services.local.containerd_pods import Mount
from services.local.image import PROBE
from services.local.image_archive import File, ImageArchive
from tests.support.cluster_api import UID, ClusterApi
from tests.support.collecting import (
    Broker,
    Records,
    assert_contiguous,
    collecting,
    eventually,
    in_order,
    run_and_remove,
)
from vexstream.evidence import Use

pytestmark = pytest.mark.real


async def test_a_container_is_observed_from_its_start_to_its_end(
    node: Containerd, broker: Broker, probe_image: ImageArchive, tmp_path: Path
) -> None:
    (tmp_path / "on-volume").write_text("not of the image")
    early = node.run(PROBE, "early")
    async with collecting(node, broker, "whole.", cluster_name="") as records:
        await eventually(lambda: bool(records.batches[early.id]))
        late = node.run(
            PROBE, "late", namespace="shop", mounts=[Mount(tmp_path, "/data", readonly=True)]
        )
        node.exec(late, ["sh", "-c", "cat /data/on-volume /proc/self/status /etc/os-release"])
        await eventually(lambda: b"/usr/lib/os-release" in records.paths(late))
        await eventually(lambda: len(records.batches[late.id]) > 4)
        node.stop(late)
        settled = len(records.batches[early.id])
        await eventually(lambda: len(records.batches[early.id]) > settled + 3)
        count = len(records.batches[late.id])
        settled = len(records.batches[early.id])
        await eventually(lambda: len(records.batches[early.id]) > settled + 3)
        assert len(records.batches[late.id]) == count, "nothing more is said of an ended container"

    batches = records.batches[late.id]
    assert_contiguous(batches)
    first = batches[0]
    assert first.observed_from_us == first.started_at_us
    host = host_name(CollectorSettings(node_name="node-1"))  # the only cluster that it is in
    assert (first.node, str(first.workload)) == ("node-1", f"{host}/shop/late")
    assert first.image.config_digest == probe_image.config_digest
    assert first.image.manifest_digests == (probe_image.manifest_digest,)
    assert records.keys == {probe_image.config_digest.encode()}
    paths = records.paths(late)
    # The kernel opens what it executes, too, which not all hooks see.
    assert paths[b"/usr/bin/sleep"] | Use.OPENED == Use.OPENED | Use.EXECUTED | Use.MAPPED
    assert paths[b"/usr/lib/x86_64-linux-gnu/libc.so.6"] == Use.OPENED | Use.MAPPED
    assert not [path for path in paths if path.startswith((b"/data", b"/proc", b"/tmp"))]
    known = records.evidence(late).containers[late.id]
    assert known.seen_whole_until() == batches[-1].observed_to_us
    assert known.lost() == 0

    assert_contiguous(records.batches[early.id])
    was_there = records.evidence(early).containers[early.id]
    assert was_there.seen_whole_until() is None
    assert (
        records.paths(early)[b"/usr/bin/sleep"]
        == Use.EXECUTED | Use.MAPPED | Use.OPENED | Use.SEEDED
    )
    assert [seen.image.config_digest for seen in records.seen] == [probe_image.config_digest]
    assert records.seen[0].runtime == "containerd"
    node.stop(early)


async def test_until_the_cluster_is_known_all_is_observed_and_nothing_said(
    node: Containerd, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ClusterApi(tmp_path) as api:
        for name, value in api.variables.items():
            monkeypatch.setenv(name, value)
        api.status = 503
        impatient = partial(find, retry_seconds=0.5)
        monkeypatch.setattr("services.collector.service.find", impatient)
        witness = node.run(PROBE, "cluster-witness")
        async with collecting(
            node, broker, "cluster.", cluster_name="", kubernetes_account_dir=api.account,
            spool_dir=tmp_path / "s",
        ) as records:  # fmt: skip
            await eventually(lambda: api.asked > 0)
            waiting = node.run(PROBE, "waiting", namespace="shop")
            node.exec(waiting, ["sh", "-c", "cat /etc/os-release"])
            asked = api.asked
            await eventually(lambda: api.asked > asked + 1)
            assert not records.batches
            api.status = 200
            await eventually(lambda: b"/usr/lib/os-release" in records.paths(waiting))
    assert {str(b.workload) for b in records.batches[waiting.id]} == {f"{UID[:8]}/shop/waiting"}
    assert records.batches[waiting.id][0].workload.namespace == f"{UID}/shop"
    known = records.evidence(waiting).containers[waiting.id]
    assert known.seen_whole_until() == records.batches[waiting.id][-1].observed_to_us
    assert (tmp_path / "s/cluster").read_text().strip() == UID
    for one in (witness, waiting):
        node.stop(one)


async def test_a_pods_container_whose_image_was_removed_is_observed(
    node: Containerd, broker: Broker, image_cache: Path
) -> None:
    name = "localhost/vexstream/removed:1"
    files = {"/opt/removed": File(b"an image of its own")}
    removed = image.probe_image(image_cache, files=files, name=name)
    node.import_image(removed.path, name)
    container = node.run(name, "removed")
    node.remove_image(name)
    async with collecting(node, broker, "removed.") as records:
        await eventually(lambda: bool(records.batches[container.id]))
        assert UNNAMED_CONTAINERS._value.get() == 0
    assert {b.image.config_digest for b in records.batches[container.id]} == {removed.config_digest}
    assert b"/usr/bin/sleep" in records.paths(container)
    node.stop(container)


async def test_the_pod_asks_for_its_learning_period(node: Containerd, broker: Broker) -> None:
    async with collecting(node, broker, "period.") as records:
        asked = {"30m": 1_800_000_000, "90": 90_000_000, "soon": None, "": None}
        pods = {
            node.run(PROBE, f"period-{n}", annotations={LEARNING_PERIOD: value}): period
            for n, (value, period) in enumerate(asked.items())
        }
        await eventually(lambda: all(records.batches[pod.id] for pod in pods))
    for pod, period in pods.items():
        assert {batch.learning_period_us for batch in records.batches[pod.id]} == {period}
        assert records.evidence(pod).containers[pod.id].learning_period_us == period
        node.stop(pod)


async def test_a_container_that_lives_for_a_moment_is_observed_whole(
    node: Containerd, broker: Broker
) -> None:
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "moment.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        brief = [
            node.run(PROBE, f"brief-{n}", args=["/bin/cat", "/etc/debian_version"])
            for n in range(3)
        ]
        await eventually(
            lambda: all(b[-1].exit_code is not None if (b := records.batches[one.id]) else False
                        for one in brief)
        )  # fmt: skip
    for one in brief:
        assert {b"/usr/bin/cat", b"/etc/debian_version"} <= set(records.paths(one))
        known = records.evidence(one).containers[one.id]
        assert known.ended == (known.lived_to_us, 0)
        assert known.seen_whole_until() == records.batches[one.id][-1].observed_to_us
        node.stop(one)
    node.stop(witness)


async def test_a_container_that_is_removed_between_two_polls_is_observed_all_the_same(
    node: Containerd, broker: Broker
) -> None:
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "removed.", poll_interval_seconds=3.0) as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        reads = ["/bin/cat", "/etc/debian_version"]
        brief = [
            await asyncio.to_thread(run_and_remove, node, f"gone-{n}", reads) for n in range(5)
        ]
        used = {b"/usr/bin/cat", b"/etc/debian_version"}  # by more than one batch, perhaps
        await eventually(lambda: all(used <= set(records.paths(one)) for one in brief))
    for one in brief:
        assert records.evidence(one).containers[one.id].lost() == 0
    node.stop(witness)


async def _collect(
    node: Containerd, broker: Broker, prefix: str, *options: str | Path
) -> tuple[asyncio.subprocess.Process, Records, asyncio.Task[None]]:
    """``vexstream collect``, and who reads what it sends."""
    variables = {
        "VEXSTREAM_CRI_ENDPOINT": node.endpoint,
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
        "VEXSTREAM_TOPIC_PREFIX": prefix,
        "VEXSTREAM_PARTITIONS": "2",
        "VEXSTREAM_CLUSTER_NAME": BARE,  # a recording is of whichever cluster
        "VEXSTREAM_BATCH_INTERVAL_SECONDS": "0.3",
    }
    settings = CollectorSettings(
        kafka_bootstrap_servers=broker.bootstrap, topic_prefix=prefix, partitions=2
    )
    records = Records(settings)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("vexstream"), "collect", *options,
        env={**os.environ, **variables},
    )  # fmt: skip
    return process, records, asyncio.create_task(records.read())


async def test_a_recorded_run_is_sent_again_as_it_was(
    node: Containerd, broker: Broker, tmp_path: Path
) -> None:
    container, file = node.run(PROBE, "recorded"), tmp_path / "run.gz"
    process, first, reader = await _collect(node, broker, "recorded.", "--record", file)
    await eventually(lambda: bool(first.batches[container.id]))
    node.exec(container, ["/bin/cat", "/etc/debian_version"])
    await eventually(lambda: b"/etc/debian_version" in first.paths(container))
    process.terminate()
    assert await process.wait() == 0
    process, again, other_reader = await _collect(node, broker, "replayed.", "--replay", file)
    assert await process.wait() == 0
    wanted, sent = first.batches[container.id], again.batches[container.id]
    await eventually(lambda: bool(wanted) and len(sent) >= len(wanted))
    for task in (reader, other_reader):
        task.cancel()
    assert_contiguous(in_order(wanted))
    assert in_order(sent) == in_order(wanted)
    node.stop(container)
