"""CPU time of the servers of a benchmark, out of /proc: other work on the machine hides it less."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME, _PPID = 11, 12, 1
"""Fields of /proc/PID/stat after the name (proc(5))."""


def seconds(word: str) -> float:
    """User and system time so far of those descendants of this process that run ``word``."""
    stats = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/stat")}
    fields = {pid: found for pid, path in stats.items() if (found := _fields(path))}
    ticks = 0
    for pid, found in fields.items():
        if _descends(pid, fields) and word in _command(pid):
            ticks += int(found[_UTIME]) + int(found[_STIME])
    return ticks / _TICKS


def _fields(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return []


def _descends(pid: int, fields: dict[int, list[str]]) -> bool:
    while pid in fields:
        pid = int(fields[pid][_PPID])
        if pid == os.getpid():
            return True
    return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
