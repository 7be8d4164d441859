"""What the hook in the opening of files sees, without a container runtime: for scripts/test-in-vm.

``scripts/test-in-vm lsm .venv/bin/python -m tests.support.opening`` (or ``fentry``). Every act is
done by a process in a root file system of its own, an overlay; prints what was seen, and ends with
1 when that is not what it should be.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from services.collector.build import find_probe
from services.collector.events import FileEvent
from services.collector.source import CoreSource
from tests.support.probe import compiled
from vexstream.evidence import Use

MAPPED = {Use.OPENED, Use.MAPPED}
EXECUTED = {Use.OPENED, Use.EXECUTED}
PROGRAM = {Use.EXECUTED | Use.MAPPED, *MAPPED}
ACTS: list[tuple[str, str, set[Use]]] = [
    ("open", "open", {Use.OPENED}),
    ("openat2", "openat2", {Use.OPENED}),
    ("o_path", "o_path", set()),
    ("missing", "no-such-file", set()),
    ("refused", "refused", set()),
    ("map_data", "map_data", {Use.OPENED}),
    ("pkey_protect", "pkey_protect", MAPPED),
    ("stat", "stat", set()),
    ("map", "map", MAPPED),
    ("map_implied", "map_implied", MAPPED),
    ("protect", "protect", MAPPED),
    ("uring", "uring", {Use.OPENED}),
    ("uring_slot", "uring_slot", {Use.OPENED}),
    ("exec", "program", PROGRAM),
    ("exec", "script", EXECUTED),
    ("closed", "closed", {Use.OPENED}),
    ("creat", "made", {Use.OPENED | Use.REWRITTEN}),
    ("creat", "rewritten", {Use.OPENED, Use.OPENED | Use.REWRITTEN}),
    ("renamed", "renamed", {Use.OPENED}),
    ("new_link", "new_link", {Use.OPENED}),
]
ENTER = (
    "mount -t overlay o -o lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work {0}/root && "
    "cd {0}/root && mkdir -p old && pivot_root . old && /bin/busybox umount -l /old && "
    "exec /opt/uses {1} /opt/{2} 300"
)


def _image(folder: Path) -> None:
    for name in ("lower/opt", "lower/bin", "upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    uses = Path(__file__).with_name("uses.c").read_text()
    program = folder / "lower/opt/uses"
    program.write_bytes(compiled(uses, "-static", "-no-pie", "-pthread"))
    shutil.copy(shutil.which("busybox") or "/usr/bin/busybox", folder / "lower/bin/busybox")
    for _, name, use in ACTS:
        if name not in ("made", "no-such-file") and use not in (PROGRAM, EXECUTED):
            (folder / "lower/opt" / name).write_bytes(b"x" * 5000)
    shutil.copy(program, folder / "lower/opt/program")
    (folder / "lower/opt/script").write_text("#!/opt/uses nothing\n")
    for name in ("uses", "program", "script"):
        (folder / "lower/opt" / name).chmod(0o755)


def main() -> int:
    """0 when everything is seen as it should be, and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    _image(folder)
    source = CoreSource(
        find_probe(None), ring_buffer_bytes=4 << 20, dedup_entries=65536, host_proc=Path("/proc")
    )
    source.start()
    print(f"files are opened by {source.opened_by}")
    wrong = int(source.opened_by != os.environ.get("VEXSTREAM_TEST_FILE_OPEN"))
    for act, name, wanted in ACTS:
        source.drain()
        command = ["unshare", "--mount", "sh", "-c", ENTER.format(folder, act, name)]
        subprocess.run(command, check=True)
        events = [event for event in source.drain() if isinstance(event, FileEvent)]
        path = f"/opt/{name}".encode()
        seen = {event.use for event in events if event.path == path}
        right = seen == wanted and not source.losses()
        wrong += not right
        print("right" if right else "WRONG", act, name, seen, dict(source.losses()), flush=True)
    source.close()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
