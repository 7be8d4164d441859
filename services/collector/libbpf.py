"""A thin typed binding to libbpf.so.1: load, attach, maps, ring buffer."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path

from services.collector.errors import ProbeError

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
_WARN = 0
_MAX_LOG_LINES = 400
_PROGRAM_INFO_BYTES = 224
_MISSES_AT = 208
"""``recursion_misses`` of ``struct bpf_prog_info`` (kernel ABI)."""

_FUNCTIONS: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__set_autoload": (c_int, (c_void_p, ctypes.c_bool)),
    "bpf_program__attach": (c_void_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_link__destroy": (c_int, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_initial_value": (c_int, (c_void_p, c_void_p, c_size_t)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "ring_buffer__new": (c_void_p, (c_int, _SAMPLE, c_void_p, c_void_p)),
    "ring_buffer__epoll_fd": (c_int, (c_void_p,)),
    "ring_buffer__consume": (c_int, (c_void_p,)),
    "ring_buffer__free": (None, (c_void_p,)),
    "libbpf_set_print": (c_void_p, (_PRINT,)),
}

_warnings: list[str] = []


def _on_print(level: int, text: bytes, arguments: int) -> int:
    """The verifier's log, which ends with its reason, can be megabytes: libc makes room for it."""
    if level == _WARN:
        libc, written = ctypes.CDLL(None), c_void_p()
        size = libc.vasprintf(ctypes.byref(written), text, c_void_p(arguments))
        if size >= 0:
            warning = ctypes.string_at(written.value or 0, size)
            libc.free(written)
            _warnings.append(warning.decode("utf-8", "replace").rstrip())
    return 0


_print = _PRINT(_on_print)
"""Kept: the library holds only a bare pointer to it."""


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise ProbeError(f"libbpf 1.x is needed: apt-get install libbpf1 ({error})") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_print)
    return library


def _failure(what: str, code: int | None = None) -> ProbeError:
    number = code if code else ctypes.get_errno()
    log = "\n".join(_warnings[-_MAX_LOG_LINES:])
    _warnings.clear()
    error = ProbeError(f"{what}: {os.strerror(abs(number))}" + (f"\n{log}" if log else ""))
    error.__cause__ = OSError(abs(number), os.strerror(abs(number)))
    return error


class BpfObject:
    """A compiled object: opened, configured, loaded, attached, closed."""

    def __init__(self, path: Path) -> None:
        self._lib = _library()
        self._links: list[int] = []
        self._disabled: set[str] = set()
        _warnings.clear()
        self._handle: int | None = self._lib.bpf_object__open_file(str(path).encode(), None)
        if not self._handle:
            raise _failure(f"{path} is no BPF object")

    def program_names(self) -> list[str]:
        """Names of the programs in the object."""
        return [name for name, _ in self._programs()]

    def disable(self, names: set[str]) -> None:
        """Leaves programs out of loading and attaching."""
        self._disabled |= names
        for name, program in self._programs():
            if name in names:
                self._lib.bpf_program__set_autoload(program, False)

    def configure(self, map_name: str, value: bytes) -> None:
        """Sets the initial value of a map of constants."""
        code = self._lib.bpf_map__set_initial_value(self._map(map_name), value, len(value))
        if code:
            raise _failure(f"the constants {map_name} of the probe have another size", code)

    def resize(self, map_name: str, entries: int) -> None:
        """Sets the size of a map before loading."""
        code = self._lib.bpf_map__set_max_entries(self._map(map_name), entries)
        if code:
            raise _failure(f"map {map_name} cannot have {entries} entries", code)

    def load(self) -> None:
        """Has the kernel verify and load the programs; the error holds the verifier's log."""
        code = self._lib.bpf_object__load(self._handle)
        if code:
            raise _failure("the kernel refuses the probe", code)

    def attach(self) -> list[str]:
        """Attaches all programs that are not disabled; returns their names."""
        self.detach()  # attached twice, a program would run twice
        attached = []
        for name, program in self._programs():
            if name in self._disabled:
                continue
            link = self._lib.bpf_program__attach(program)
            if not link:
                raise _failure(f"program {name} cannot be attached")
            self._links.append(link)
            attached.append(name)
        return attached

    def detach(self) -> None:
        """No program runs any more; all of them and their maps stay loaded."""
        for link in self._links:
            self._lib.bpf_link__destroy(link)
        self._links.clear()

    def misses(self) -> int:
        """How often the kernel left an attached program out because it was busy on that CPU."""
        total = 0
        for _, program in self._programs():
            fd = self._lib.bpf_program__fd(program)
            if fd < 0:
                continue
            info = ctypes.create_string_buffer(_PROGRAM_INFO_BYTES)
            size = c_uint32(_PROGRAM_INFO_BYTES)
            code = self._lib.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size))
            if code:
                raise _failure("the kernel says nothing of the probe's programs", code)
            total += int.from_bytes(info.raw[_MISSES_AT : _MISSES_AT + 8], sys.byteorder)
        return total

    def ring_buffer(self, map_name: str, on_sample: Callable[[bytes], None]) -> "RingBuffer":
        """A consumer of a ring buffer map."""
        return RingBuffer(self._lib, self._fd(map_name), on_sample)

    def lookup(self, map_name: str, key: bytes, value_bytes: int) -> bytes | None:
        """Value of a key, None when there is none."""
        value = ctypes.create_string_buffer(value_bytes)
        if self._lib.bpf_map_lookup_elem(self._fd(map_name), key, value):
            return None
        return value.raw

    def delete(self, map_name: str, key: bytes) -> None:
        """Removes a key if it is there."""
        self._lib.bpf_map_delete_elem(self._fd(map_name), key)

    def keys(self, map_name: str, key_bytes: int) -> Iterator[bytes]:
        """All keys of a hash map."""
        fd = self._fd(map_name)
        key: bytes | None = None
        following = ctypes.create_string_buffer(key_bytes)
        while not self._lib.bpf_map_get_next_key(fd, key, following):
            key = following.raw
            yield key

    def close(self) -> None:
        """Detaches and unloads everything; may be called twice."""
        self.detach()
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = None

    def _programs(self) -> Iterator[tuple[str, int]]:
        program = self._lib.bpf_object__next_program(self._handle, None)
        while program:
            yield self._lib.bpf_program__name(program).decode(), program
            program = self._lib.bpf_object__next_program(self._handle, program)

    def _map(self, name: str) -> int:
        handle: int | None = self._lib.bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise ProbeError(
                f"the probe has no map {name}: rebuild it with `scripts/bootstrap test`"
            )
        return handle

    def _fd(self, name: str) -> int:
        return int(self._lib.bpf_map__fd(self._map(name)))


class RingBuffer:
    """Consumer of one ring buffer."""

    def __init__(self, lib: ctypes.CDLL, fd: int, on_sample: Callable[[bytes], None]) -> None:
        def sample(_: int, data: int, size: int) -> int:
            on_sample(ctypes.string_at(data, size))
            return 0

        self._lib = lib
        self._callback = _SAMPLE(sample)  # kept: the library holds only a bare pointer to it
        self._handle: int | None = lib.ring_buffer__new(fd, self._callback, None, None)
        if not self._handle:
            raise _failure("the ring buffer cannot be mapped")

    def epoll_fd(self) -> int:
        """Readable when the kernel asks to be heard."""
        return int(self._lib.ring_buffer__epoll_fd(self._handle))

    def consume(self) -> int:
        """Hands every waiting sample over; returns how many."""
        count = int(self._lib.ring_buffer__consume(self._handle))
        if count < 0:
            raise _failure("the ring buffer cannot be read", count)
        return count

    def close(self) -> None:
        """Unmaps it; may be called twice."""
        if self._handle:
            self._lib.ring_buffer__free(self._handle)
            self._handle = None
