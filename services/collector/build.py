"""Builds the kernel probe: clang for the BPF target, against libbpf's headers only."""

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from services.collector.errors import ProbeError

SOURCE = Path(__file__).with_name("probe.bpf.c")
OBJECT = SOURCE.with_suffix(".o")
_ARCHITECTURES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64"}
_NEEDED = "apt-get install clang libbpf-dev"


def build_probe(out: Path = OBJECT) -> Path:
    """Compiles the probe for this machine's architecture and returns ``out``.

    Raises:
        ProbeError: clang or the headers are missing, or the architecture is not supported.
    """
    machine = platform.machine()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None:
        raise ProbeError(f"the probe supports x86_64 and aarch64, this machine is {machine}")
    clang = shutil.which("clang")
    if clang is None:
        raise ProbeError(f"clang is needed to build the probe: {_NEEDED}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        built = Path(scratch) / out.name
        done = subprocess.run(
            [
                clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror",
                f"-D__TARGET_ARCH_{architecture}", f"-I/usr/include/{machine}-linux-gnu",
                "-c", str(SOURCE), "-o", str(built),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            hint = f" ({_NEEDED})" if "file not found" in done.stderr else ""
            raise ProbeError(f"the probe does not compile{hint}:\n{done.stderr.strip()}")
        built.replace(out)
    return out


def find_probe(configured: Path | None) -> Path:
    """The compiled probe: the configured one, or the one beside the source, built when stale.

    Raises:
        ProbeError: there is none and it cannot be built.
    """
    if configured is not None:
        if not configured.is_file():
            raise ProbeError(f"VEXSTREAM_PROBE_OBJECT names {configured}, which is no file")
        return configured
    if OBJECT.is_file() and OBJECT.stat().st_mtime >= SOURCE.stat().st_mtime:
        return OBJECT
    return build_probe(OBJECT)
