"""The name of a host that is in no cluster: the same at every start, and no other host's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.collector.cluster import given, named
from services.collector.errors import ClusterUnknownError
from services.collector.hostid import host_name
from services.collector.settings import CollectorSettings
from tests.unit.factories import PERIOD, batch
from vexstream.coverage import coverage
from vexstream.evidence import Evidence
from vexstream.identity import Workload
from vexstream.rules import Rules

MACHINE, FIRMWARE = "3d1219c7c4c5404aaa1f6d2a48adfda4", "7F2A1B00-0000-4000-8000-0123456789AB"
Host = Callable[..., CollectorSettings]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A collector on a host with these files; where one leads, its links lead within the host."""

    def made(
        machine: str = MACHINE, firmware: str = FIRMWARE, name: str = "web-1", **settings: object
    ) -> CollectorSettings:
        proc = tmp_path / str(len(list(tmp_path.iterdir())))
        root = proc / "1/root"
        files = {"run/id": machine, "sys/devices/dmi/product_uuid": firmware, "etc/hostname": name}
        for file, content in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if content:
                path.write_text(f"{content}\n")
        (root / "etc/machine-id").symlink_to("/run/id")
        (root / "sys/class/dmi").mkdir(parents=True)
        (root / "sys/class/dmi/id").symlink_to("../../devices/dmi")
        (proc / "1/ns").mkdir()
        (proc / "1/ns/mnt").write_text("")
        return CollectorSettings.model_validate({"host_proc": proc} | settings)

    return made


def test_it_is_the_same_at_every_start_and_another_with_each_part(host: Host) -> None:
    name = host_name(host())
    assert host_name(host()) == host_name(host(firmware=FIRMWARE.lower())) == name
    assert name.startswith("web-1-")
    others = [
        host(machine="f" * 32), host(firmware="other"), host(firmware=""), host(name="web-2"),
        host(node_name="web-1a"), host(node_name="x" * 200),
    ]  # fmt: skip
    names = [host_name(other) for other in others]
    assert len({name, *names}) == 1 + len(others)
    for one in (name, *names):  # it could have been given too
        assert given(CollectorSettings(cluster_name=one)).name == one
        assert len(one) <= 51


@pytest.mark.parametrize("machine", ["", "uninitialized", "0" * 32])
def test_without_a_machine_id_it_has_to_be_given(host: Host, machine: str) -> None:
    with pytest.raises(ClusterUnknownError, match="VEXSTREAM_NODE_NAME"):
        host_name(host(machine))
    assert host_name(host(machine, node_name="a")) != host_name(host(machine, node_name="b"))


def test_nothing_of_the_collectors_own_root_is_taken_for_the_hosts(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container of the collector's image is the same on every host."""
    seen: list[str] = []
    opened = os.open

    def watching(path: str | Path, *args: int, **options: int) -> int:
        seen.append(str(path))
        return opened(path, *args, **options)

    settings = host()
    monkeypatch.setattr("services.collector.hostid.os.open", watching)
    host_name(settings)
    assert seen
    assert all(path.startswith(str(settings.host_proc)) for path in seen)


def test_containers_of_one_name_on_two_plain_hosts_are_two_workloads(host: Host) -> None:
    """One was seen whole, which says nothing of the other; given one name they are one."""
    workload = Workload("", "web", "web")

    def whole(*clusters: CollectorSettings) -> dict[str, bool]:
        evidence = Evidence(batch(0, 1).image)
        for n, settings in enumerate(clusters):
            seen = batch(n * 5, 10, container=str(n) * 64, workload=workload, started=0)
            evidence.merge(named(settings, {}).placed(seen))
        found = coverage(evidence.containers, Rules(PERIOD)).workloads
        return {str(one.workload): one.since_us is not None for one in found}

    first, second = host(), host(name="web-2")
    names = host_name(first), host_name(second)
    assert whole(first, second) == {f"{names[0]}/web": True, f"{names[1]}/web": False}
    joined = [host(cluster_name="east"), host(name="web-2", cluster_name="east")]
    assert whole(*joined) == {"east/web": True}
