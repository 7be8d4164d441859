"""Samples of the ring buffer."""

import struct

from services.collector.events import CgroupEvent, parse
from tests.unit.tracking import file_used
from vexstream.evidence import Use


def test_samples_of_the_ring_buffer_are_understood() -> None:
    header = struct.pack("=QQQIIIIHHI", 10, 3, 7, 50, 50, 42, 5, 1, 1 | 4 | 32, 8)
    assert parse(header + b"/bin/\xff\nxjunk") == file_used(
        b"/bin/\xff\nx", use=Use.OPENED | Use.MAPPED, from_top=False, pid=42, inode=3
    )
    header = struct.pack("=QQQIIIIHHI", 11, 5_999, 0, 0, 0, 0, 0, 2, 0, 4)
    assert parse(header + b"/a/b") == CgroupEvent(11, "/a/b", made_at_us=5)
