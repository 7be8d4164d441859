"""Files of one container that are used from another one, or from a session of the host."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from services.collector.cgroups import find_root
from services.common.metrics import EVENTS
from services.local import containerd_setup
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from tests.support.collecting import Broker, collecting, eventually
from tests.support.probe import cgroup_of
from tests.support.trivy import trivy_program
from vexstream.evidence import Use

pytestmark = pytest.mark.real
__all__ = ["trivy_program"]

_MODULE = "/usr/lib/x86_64-linux-gnu/perl-base/strict.pm"
_ENTER = """
import ctypes, os, sys
group, mounts, root, how, *argv = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
root = os.open(root, os.O_RDONLY)
namespace = os.open(mounts, os.O_RDONLY)
of_host = how == "scanner"
program = os.open(argv[0], os.O_RDONLY | os.O_CLOEXEC) if of_host else os.open(
    argv[0].lstrip("/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=root
)
assert ctypes.CDLL(None).setns(namespace, 0x20000) == 0
os.fchdir(root)
if how == "chroot":
    os.chroot(".")
if of_host:
    os.chdir("/")
    os.makedirs("/run/scan/proc")
    assert ctypes.CDLL(None).mount(b"proc", b"/run/scan/proc", b"proc", 0, None) == 0
    quiet = {"HOME": "/run/scan", "TMPDIR": "/run/scan"}
    os.execve(program, argv, quiet)
os.execve(program if how == "program" else argv[0], argv, {})
"""


def _uses(how: str, group: Path, mounts: int, files_of: int, path: str) -> None:
    """``cat path`` in a cgroup and a mount namespace, on the files that process ``files_of`` has.

    ``chroot``: with these files as its root. ``program``: with the program that is among them.
    ``outside``: as one that only reads them. ``script``: by an interpreter of its own.
    """
    name = path if how == "chroot" else path.lstrip("/")
    program = "/usr/bin/perl" if how == "script" else "/bin/cat"
    _run(how, group, mounts, files_of, program, name)


def _run(how: str, group: Path, mounts: int, files_of: int, *argv: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENTER, str(group), f"/proc/{mounts}/ns/mnt",
         f"/proc/{files_of}/root", how, *argv],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def test_a_scanner_of_anothers_files_uses_none_of_them(
    node: Containerd, broker: Broker, trivy_program: str
) -> None:
    witness = node.run(PROBE, "witness")
    async with collecting(node, broker, "scanner.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        app, other = node.run(PROBE, "app"), node.run(PROBE, "other")
        await eventually(
            lambda: all(b"/usr/bin/sleep" in records.paths(one) for one in (app, other))
        )
        before = records.paths(app)
        pid = node.pid(other)
        read = EVENTS.labels("not_image")._value.get()
        scanner = [
            trivy_program, "rootfs", "--scanners", "secret", "--skip-version-check",
            f"/run/scan/proc/{node.pid(app)}/root/usr",
        ]  # fmt: skip
        await asyncio.to_thread(_run, "scanner", cgroup_of(pid), pid, node.pid(app), *scanner)
        await asyncio.to_thread(_uses, "outside", cgroup_of(pid), pid, pid, "/etc/issue")
        await eventually(lambda: b"/etc/issue" in records.paths(other))
        assert EVENTS.labels("not_image")._value.get() > read + 100, "it read them"
        assert records.paths(app) == before
    for container in (app, other):
        assert records.evidence(container).containers[container.id].lost() == 0
    for one in (app, other, witness):
        node.stop(one)


async def test_what_one_who_lives_among_anothers_files_reads_counts_for_that_one(
    node: Containerd, broker: Broker
) -> None:
    witness = node.run(PROBE, "witness")
    group = find_root(None) / "vexstream-test-session"
    async with collecting(node, broker, "neighbour.", hold_seconds=2) as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        app, debugger = node.run(PROBE, "app"), node.run(PROBE, "debugger")
        await eventually(
            lambda: all(b"/usr/bin/sleep" in records.paths(one) for one in (app, debugger))
        )
        inside, seen = node.pid(app), node.pid(debugger)

        async def uses(how: str, path: str) -> None:
            await asyncio.to_thread(_uses, how, cgroup_of(seen), seen, inside, path)

        for path in ("/etc/issue", "/etc/debian_version"):
            await uses("outside", path)
        await uses("chroot", "/etc/debian_version")
        await uses("program", "/usr/lib/os-release")
        await uses("outside", _MODULE.replace("strict", "warnings"))
        await uses("script", _MODULE)
        wanted = {b"/etc/debian_version", b"/usr/lib/os-release", _MODULE.encode()}
        await eventually(lambda: wanted <= records.paths(app).keys())
        assert records.paths(app)[b"/usr/bin/cat"] & Use.EXECUTED
        assert b"/etc/issue" not in records.paths(app)
        assert _MODULE.replace("strict", "warnings").encode() not in records.paths(app)

        group.mkdir()
        try:
            await asyncio.to_thread(_uses, "chroot", group, inside, inside, "/etc/host.conf")
            await eventually(lambda: b"/etc/host.conf" in records.paths(app))
        finally:
            group.rmdir()
    assert records.evidence(app).containers[app.id].lost() == 0
    for one in (app, debugger, witness):
        node.stop(one)


async def test_on_a_file_system_that_all_share_what_another_runs_counts_for_its_container(
    broker: Broker, probe_image: ImageArchive, image_cache: Path, short_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """containerd's snapshotter "native": every root is a directory of the host's file system."""
    section = '[plugins."io.containerd.grpc.v1.cri".containerd'
    config = containerd_setup._CONFIG.replace(
        f"{section}.runtimes.runc]",
        f'{section}]\n  snapshotter = "native"\n{section}.runtimes.runc]',
    )
    monkeypatch.setattr(containerd_setup, "_CONFIG", config)
    with Containerd(short_tmp / "c", cache=image_cache) as node:
        node.import_image(probe_image.path, PROBE)
        witness = node.run(PROBE, "witness")
        async with collecting(node, broker, "shared.") as records:
            await eventually(lambda: bool(records.batches[witness.id]))
            app, debugger = node.run(PROBE, "app"), node.run(PROBE, "debugger")
            await eventually(
                lambda: all(b"/usr/bin/sleep" in records.paths(one) for one in (app, debugger))
            )
            inside, seen = node.pid(app), node.pid(debugger)

            def run(how: str, mounts: int, *argv: str) -> None:
                _run(how, cgroup_of(seen), mounts, inside, *argv)

            await asyncio.to_thread(run, "outside", seen, "/bin/cat", "etc/issue")
            await asyncio.to_thread(run, "program", seen, "/usr/bin/tac", "/etc/issue")
            await asyncio.to_thread(run, "outside", inside, "/bin/cat", "etc/debian_version")
            wanted = {b"/usr/bin/tac", b"/etc/debian_version"}
            await eventually(lambda: wanted <= records.paths(app).keys())
            assert b"/etc/issue" not in records.paths(app)
        for one in (app, debugger, witness):
            node.stop(one)
