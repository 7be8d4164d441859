"""The private containerd: runs containers as kubelet would, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from services.local import image
from services.local.containerd import Containerd, ContainerdError
from services.local.containerd_cgroups import hierarchies
from services.local.containerd_pods import Mount
from services.local.image import DEMO, PROBE, UNREADABLE, unreadable_image
from services.local.image_archive import File, ImageArchive
from services.local.ports import free_port

pytestmark = pytest.mark.real


@pytest.fixture
def probe(probed: Containerd) -> Containerd:
    """The containerd of the test run, with the probe image."""
    return probed


def test_containerd_knows_an_image_by_the_digests_it_was_built_with(
    probe: Containerd, probe_image: ImageArchive
) -> None:
    config, manifests = probe.digests(PROBE)
    assert config == probe_image.config_digest
    assert manifests == (probe_image.manifest_digest,)


def test_a_container_is_where_kubelet_would_have_put_it(probe: Containerd) -> None:
    container = probe.run(PROBE, "placed", namespace="shop")
    try:
        pid = probe.pid(container)
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        wanted = f"/kubepods/besteffort/pod{container.pod_uid}/{container.id}"
        assert {line.split(":", 2)[2] for line in groups} == {wanted}
        assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    finally:
        probe.stop(container)
    assert not Path(f"/proc/{pid}").exists()
    assert _groups_of(container.pod_uid) == []


def test_exec_gives_output_and_exit_code(probe: Containerd) -> None:
    container = probe.run(PROBE, "exec")
    try:
        done = probe.exec(container, ["sh", "-c", "echo out; echo err >&2; exit 7"])
        assert done == (b"out\n", b"err\n", 7)
        with pytest.raises(ContainerdError, match="cannot run no-such-program in exec"):
            probe.exec(container, ["no-such-program"])
    finally:
        probe.stop(container)


def test_arguments_environment_and_mounts_reach_the_container(
    probe: Containerd, tmp_path: Path
) -> None:
    (tmp_path / "note").write_text("from outside")
    script = 'echo "$GREETING, $(cat /note)"; touch /note || echo read-only; sleep 60'
    mounts = [Mount(tmp_path / "note", "/note", readonly=True)]
    container = probe.run(
        PROBE, "told", args=["sh", "-c", script], env={"GREETING": "hello"}, mounts=mounts
    )
    try:
        _until(lambda: "read-only" in container.log.read_text())
        assert "hello, from outside" in container.log.read_text()
    finally:
        probe.stop(container)


def test_an_ended_container_has_no_pid_but_a_log(probe: Containerd) -> None:
    container = probe.run(PROBE, "short", args=["sh", "-c", "echo done; exit 4"])

    def pid_is_refused() -> bool:
        try:
            probe.pid(container)
        except ContainerdError as error:
            return "exit code 4" in str(error) and str(container.log) in str(error)
        return False

    _until(pid_is_refused)
    assert "done" in container.log.read_text()
    probe.stop(container)


def test_what_cannot_start_leaves_no_pod(probe: Containerd) -> None:
    with pytest.raises(ContainerdError, match=r"cannot run .* as broken"):
        probe.run(PROBE, "broken", args=["/no/such/program"])
    with pytest.raises(ContainerdError, match="cannot run localhost/nothing:1 as broken"):
        probe.run("localhost/nothing:1", "broken")
    assert _pods(probe) == {}


def test_a_program_put_into_the_probe_image_runs(
    containerd: Containerd, image_cache: Path, probe_image: ImageArchive
) -> None:
    name = "localhost/vexstream/probe-with-program:1"
    program = File(b"#!/bin/sh\necho I am $0\n", 0o755)
    archive = image.probe_image(image_cache, files={"/opt/program": program}, name=name)
    assert archive.config_digest != probe_image.config_digest
    containerd.import_image(archive.path, name)
    container = containerd.run(name, "with-program")
    try:
        assert containerd.exec(container, ["/opt/program"]).stdout == b"I am /opt/program\n"
    finally:
        containerd.stop(container)


def test_the_demo_imports_requests_and_pillow_late(
    containerd: Containerd, demo_image: ImageArchive
) -> None:
    containerd.import_image(demo_image.path, DEMO)
    port = free_port()
    container = containerd.run(DEMO, "web", env={"PORT": str(port)})
    try:
        _until(lambda: _get(port, "/healthz") == 200)
        maps = Path(f"/proc/{containerd.pid(container)}/maps")
        assert _get(port, "/") == 200
        assert "/markupsafe/" in maps.read_text()
        assert "/PIL/" not in maps.read_text()
        assert _get(port, "/thumbnail") == 200
        assert "/PIL/" in maps.read_text()
        assert _get(port, "/fetch") == 200
    finally:
        containerd.stop(container)


def test_a_broken_archive_is_refused(containerd: Containerd, tmp_path: Path) -> None:
    archive = unreadable_image(tmp_path / "unreadable.tar")
    with pytest.raises(ContainerdError, match="containerd refuses"):
        containerd.import_image(archive.path, UNREADABLE)


def test_nothing_is_left_when_it_ends(
    containerd: Containerd, probe_image: ImageArchive, image_cache: Path, short_tmp: Path
) -> None:
    state = short_tmp / "state"
    with Containerd(state, cache=image_cache, remove_state=True) as second:
        second.import_image(probe_image.path, PROBE)
        container = second.run(PROBE, "kept")
        pid = second.pid(container)
        assert _processes_of(state)
        assert _pods(containerd) == {}  # the first does not see the second's
    assert not Path(f"/proc/{pid}").exists()
    assert _processes_of(state) == []
    assert str(state) not in Path("/proc/self/mounts").read_text()
    assert _groups_of(container.pod_uid) == []
    assert not state.exists()
    second.close()  # again: nothing happens


def test_nothing_is_left_when_it_cannot_start(
    containerd: Containerd, image_cache: Path, short_tmp: Path
) -> None:
    (short_tmp / "root").write_text("where containerd wants a folder")
    with pytest.raises(ContainerdError, match="died at its start"):
        Containerd(short_tmp, cache=image_cache).start()
    assert _processes_of(short_tmp) == []
    assert str(short_tmp) not in Path("/proc/self/mounts").read_text()


def test_a_state_folder_has_one_containerd(containerd: Containerd, image_cache: Path) -> None:
    with pytest.raises(ContainerdError, match="another containerd runs in"):
        Containerd(containerd.state, cache=image_cache, remove_state=True).start()
    assert containerd.state.exists()


def test_no_process_survives_a_killed_parent(
    containerd: Containerd, image_cache: Path, short_tmp: Path
) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from services.local.containerd import Containerd\n"
        "daemon = Containerd(Path(sys.argv[1]), cache=Path(sys.argv[2])); daemon.start()\n"
        "pod = daemon.run('localhost/pause:1', 'orphan'); print(daemon.pid(pod), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(short_tmp), str(image_cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.send_signal(signal.SIGKILL)
    _until(lambda: not _processes_of(short_tmp) and not Path(f"/proc/{pid}").exists())
    # The next one in the same folder clears the rest away.
    with Containerd(short_tmp, cache=image_cache) as following:
        left = _pods(following)
        assert set(left) == {"orphan"}
    assert _groups_of(left["orphan"]) == []


def _pods(containerd: Containerd) -> dict[str, str]:
    """Name -> uid of every pod CRI knows."""
    with grpc.insecure_channel(containerd.endpoint) as channel:
        stub: Any = api_pb2_grpc.RuntimeServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = stub.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10)
        return {pod.metadata.name: pod.metadata.uid for pod in answer.items}


def _get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _groups_of(pod_uid: str) -> list[Path]:
    return [path for root in hierarchies() for path in root.glob(f"kubepods/*/pod{pod_uid}")]


def _processes_of(state: Path) -> list[int]:
    """Daemons, shims and whatever else names the state folder in its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(state) in words:
                found.append(int(entry.name))
    return found


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
