"""Which mount namespace is taken for the host's: never one that is not certain."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from services.collector import host
from services.collector.errors import ProbeError
from services.collector.host import HostProcess

MOUNTINFO = "1 0 8:1 / / rw - ext4 /dev/a rw\n"


def _process(proc: Path, pid: str, namespace: Path, *, kernel_thread: bool = False) -> None:
    folder = proc / pid
    (folder / "ns").mkdir(parents=True)
    os.link(namespace, folder / "ns/mnt")
    (folder / "root").mkdir()
    (folder / "mountinfo").write_text(MOUNTINFO)
    (folder / "comm").write_text("kthreadd\n" if kernel_thread else "init\n")
    memory = "" if kernel_thread else "VmSize:\t1 kB\n"
    (folder / "status").write_text(f"Name:\tx\nPPid:\t0\n{memory}")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name in ("hosts", "containers"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.fixture
def refuse_process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    stat: Callable[..., os.stat_result] = Path.stat

    def refusing(path: Path, **options: bool) -> os.stat_result:
        if "/1/ns" in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)


def _namespace(proc: Path, which: HostProcess = "auto") -> int:
    packed = host.probe_config(host.find_host(proc, which), io_uring=True, typed_reads=False)
    namespace: int = struct.unpack("=QIIIIII", packed)[2]
    return namespace


def _inum(path: Path) -> int:
    return path.stat().st_ino & 0xFFFFFFFF


def test_process_1_is_the_host_where_it_can_be_read(proc: Path) -> None:
    _process(proc, "1", proc / "hosts")
    _process(proc, "self", proc / "containers")
    assert _namespace(proc) == _inum(proc / "hosts")


@pytest.mark.usefixtures("refuse_process_1")
def test_the_kernels_threads_prove_that_this_is_the_host(proc: Path) -> None:
    _process(proc, "2", proc / "hosts", kernel_thread=True)
    _process(proc, "self", proc / "hosts")
    assert _namespace(proc) == _inum(proc / "hosts")


@pytest.mark.usefixtures("refuse_process_1")
@pytest.mark.parametrize("kernel_thread", [True, False])
def test_nothing_is_guessed(proc: Path, kernel_thread: bool) -> None:
    _process(proc, "2", proc / "hosts", kernel_thread=kernel_thread)
    _process(proc, "self", proc / ("containers" if kernel_thread else "hosts"))
    with pytest.raises(ProbeError, match="VEXSTREAM_HOST_PROCESS=self"):
        _namespace(proc)
    assert _namespace(proc, "self") == _inum(proc / ("containers" if kernel_thread else "hosts"))


@pytest.mark.parametrize(
    ("symbols", "there"),
    [
        ("ffffffff815113f0 T bpf_rdonly_cast\n", True),
        ("0 T bpf_rdonly_cast_not\n", False),
        (None, False),
    ],
)
def test_typed_reads_go_by_the_kernels_symbols(
    tmp_path: Path, symbols: str | None, there: bool
) -> None:
    if symbols is not None:
        (tmp_path / "kallsyms").write_text("0 T first\n" + symbols)
    assert host.has_typed_reads(tmp_path) is there
