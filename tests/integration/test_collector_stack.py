"""The probe's functions that call each other have no more stack than every kernel grants them.

Newer kernels count it otherwise than those before 6.7 or so, and would let in what these refuse.
"""

import struct
from collections import defaultdict
from pathlib import Path

from services.collector.build import build_probe

MOST = 512
FRAME = 32
"""What older kernels round every function's up to."""
LOAD_ADDRESS, CALL, MOVE, ADD = 0x18, 0x85, 0xBF, 0x07
MEMORY = {0x61, 0x69, 0x71, 0x79, 0x62, 0x6A, 0x72, 0x7A, 0x63, 0x6B, 0x73, 0x7B, 0xDB, 0xC3}
STACK = 10
FUNCTION = 2

Function = tuple[int, int]
"""Section and offset."""


class Probe:
    """Functions of a BPF object: the stack of each, and which it calls."""

    def __init__(self, data: bytes) -> None:
        (at,) = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        headers = [struct.unpack_from("<IIQQQQIIQQ", data, at + n * size) for n in range(count)]
        self._bodies = [data[h[4] : h[4] + h[5]] for h in headers]
        symbols = next(n for n, header in enumerate(headers) if header[1] == 2)
        strings = self._bodies[headers[symbols][6]]
        self._symbols = list(struct.iter_unpack("<IBBHQQ", self._bodies[symbols]))
        self._relocated: dict[Function, int] = {}
        for header, body in zip(headers, self._bodies, strict=True):
            if header[1] == 9:
                for place, info in struct.iter_unpack("<QQ", body):
                    self._relocated[header[7], place] = info >> 32
        self.names: dict[Function, str] = {}
        self.stack: dict[Function, int] = {}
        self.calls: dict[Function, set[Function]] = defaultdict(set)
        for name, info, _, section, value, length in self._symbols:
            if info & 15 == FUNCTION:
                self.names[section, value] = strings[name:].split(b"\0", 1)[0].decode()
                self._read((section, value), length)

    def _read(self, function: Function, length: int) -> None:
        section, start = function
        self.stack[function] = 1
        copies: set[int] = set()
        for at in range(start, start + length, 8):
            code, registers, offset, value = struct.unpack_from("<BBhi", self._bodies[section], at)
            target, source = registers & 15, registers >> 4
            if code in MEMORY and STACK in (target, source):
                self.stack[function] = max(self.stack[function], -offset)
            elif code == MOVE:
                copies = copies | {target} if source == STACK else copies - {target}
            elif code == ADD and target in copies:
                self.stack[function] = max(self.stack[function], -value)
                copies = copies - {target}
            elif (section, at) in self._relocated:
                self._refer(function, self._symbols[self._relocated[section, at]], code, value)
            elif code == CALL and source == 1:
                self.calls[function].add((section, at + 8 + value * 8))

    def _refer(self, function: Function, symbol: tuple[int, ...], code: int, value: int) -> None:
        _, info, _, section, at, _ = symbol
        if info & 15 == FUNCTION:
            self.calls[function].add((section, at))
        elif info & 15 == 3 and code == CALL:  # of a section: the call says where in it
            self.calls[function].add((section, (value + 1) * 8))
        elif info & 15 == 3 and code == LOAD_ADDRESS:
            self.calls[function].add((section, value))

    def deepest(self, function: Function) -> tuple[int, list[str]]:
        """Bytes of a function and the deepest that it calls, and their names."""
        own = -(-self.stack[function] // FRAME) * FRAME
        below = max((self.deepest(one) for one in self.calls[function] if one in self.stack),
                    default=(0, []))  # fmt: skip
        return own + below[0], [self.names[function], *below[1]]


def test_the_stack_of_functions_that_call_each_other(tmp_path: Path) -> None:
    probe = Probe(build_probe(tmp_path / "probe.o").read_bytes())
    depths = sorted((probe.deepest(function) for function in probe.stack), reverse=True)
    assert "walk_path" in depths[0][1], "the longest way leads to the path"
    assert depths[0][0] <= MOST, depths[0]
