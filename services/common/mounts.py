"""Reads /proc/<pid>/mountinfo (proc(5))."""

import re
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a namespace."""

    id: int
    device: int
    """As the kernel numbers it: major << 20 | minor."""
    root: bytes
    """Directory of the file system that is mounted."""
    point: bytes
    fs_type: str


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The mounts in the order of the file: a later one covers an earlier one at the same point."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(b" ")
        separator = fields.index(b"-")
        major, minor = fields[2].split(b":")
        mounts.append(
            Mount(
                id=int(fields[0]),
                device=int(major) << 20 | int(minor),
                root=unescape(fields[3]),
                point=unescape(fields[4]),
                fs_type=fields[separator + 1].decode(),
            )
        )
    return mounts


def unescape(text: bytes) -> bytes:
    """Undoes the kernel's octal escapes."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 255]), text)


def mount_of(path: bytes, mounts: list[Mount]) -> Mount | None:
    """The mount that a path is on."""
    best = None
    for mount in mounts:
        prefix = mount.point.rstrip(b"/")
        if (path == prefix or path.startswith(prefix + b"/")) and (
            best is None or len(prefix) >= len(best.point.rstrip(b"/"))
        ):
            best = mount
    return best
