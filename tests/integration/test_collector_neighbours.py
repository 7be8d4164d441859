"""Files of one container that are used from another one, or from a session of the host."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from services.collector.cgroups import find_root
from services.local.containerd import Containerd
from services.local.image import PROBE
from tests.support.collecting import Broker, collecting, eventually
from tests.support.probe import cgroup_of
from vexstream.evidence import Use

pytestmark = pytest.mark.real

_ENTER = """
import ctypes, os, sys
group, mounts, root, how, *argv = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
root = os.open(root, os.O_RDONLY)
namespace = os.open(mounts, os.O_RDONLY)
program = os.open(argv[0].lstrip("/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
assert ctypes.CDLL(None).setns(namespace, 0x20000) == 0
os.fchdir(root)
if how == "chroot":
    os.chroot(".")
os.execve(program if how == "program" else argv[0], argv, {})
"""


def _uses(how: str, group: Path, mounts: int, files_of: int, path: str) -> None:
    """``cat path`` in a cgroup and a mount namespace, on the files that process ``files_of`` has.

    ``chroot``: with these files as its root. ``program``: with the program that is among them.
    ``outside``: as one that only reads them.
    """
    name = path if how == "chroot" else path.lstrip("/")
    subprocess.run(
        [sys.executable, "-c", _ENTER, str(group), f"/proc/{mounts}/ns/mnt",
         f"/proc/{files_of}/root", how, "/bin/cat", name],
        check=True, capture_output=True,
    )  # fmt: skip


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
        wanted = {b"/etc/debian_version", b"/usr/lib/os-release"}
        await eventually(lambda: wanted <= records.paths(app).keys())
        assert records.paths(app)[b"/usr/bin/cat"] & Use.EXECUTED
        assert b"/etc/issue" not in records.paths(app)

        group.mkdir()
        try:
            await asyncio.to_thread(_uses, "chroot", group, inside, inside, "/etc/host.conf")
            await eventually(lambda: b"/etc/host.conf" in records.paths(app))
        finally:
            group.rmdir()
    assert records.evidence(app).containers[app.id].lost() == 0
    for one in (app, debugger, witness):
        node.stop(one)
