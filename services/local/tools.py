"""What this machine can do, and where the scanners are."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from services.local import containerd_setup
from services.local.process import MissingPrerequisiteError

REPOSITORY = Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Where built images and downloaded tools are kept (VEXSTREAM_CACHE, else .cache)."""
    chosen = os.environ.get("VEXSTREAM_CACHE")
    return Path(chosen) if chosen else REPOSITORY / ".cache"


def find_tool(name: str) -> Path:
    """Path of syft or grype: VEXSTREAM_<NAME>, the cache, beside this Python, then PATH.

    Raises:
        MissingPrerequisiteError: it is nowhere.
    """
    variable = f"VEXSTREAM_{name.upper()}"
    candidates = [os.environ.get(variable), cache_dir() / "bin" / name,
                  Path(sys.executable).parent / name, shutil.which(name)]  # fmt: skip
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise MissingPrerequisiteError(
        f"{name} is not installed: run scripts/bootstrap demo, or name it in {variable}"
    )


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder of our own with a short path: unix sockets allow 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vx-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        # Postgres runs as another user and must be able to pass through.
        path.chmod(0o711)
        yield path


def obstacles() -> list[str]:
    """Why the live run is impossible here; empty when it is not."""
    found = []
    if os.geteuid() != 0:
        found.append("not root: loading eBPF programs and running containers need it (use sudo)")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        found.append("no /sys/kernel/btf/vmlinux: the kernel has no BTF")
    if not found:
        try:
            containerd_setup.require_prerequisites()
        except MissingPrerequisiteError as error:
            found.append(str(error))
    for name in ("syft", "grype"):
        try:
            find_tool(name)
        except MissingPrerequisiteError as error:
            found.append(str(error))
    return found
