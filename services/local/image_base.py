"""The Debian base layer under the demo's and the tests' images, and commands run inside it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from services.local.image_archive import ImageError, architecture, layer_of_directory
from services.local.image_cache import cached_file
from services.local.process import MissingPrerequisiteError

SUITE = "bookworm"
PYTHON = "3.11"
"""The suite's own."""
PACKAGES = ("ca-certificates", "curl", "openssl", "python3")
"""Beside the minimum; curl and openssl are there to be never used."""

Progress = Callable[[str], None]
"""Takes one line that says what is going on."""

_TAIL_BYTES = 2000
# What an image has no use for. /dev and the network's files are the runtime's business.
_DROPPED = (
    "dev/*", "etc/hostname", "etc/resolv.conf", "proc/*", "run/*", "sys/*", "tmp/*",
    "usr/share/doc/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/man/*",
    "var/cache/apt/*", "var/cache/debconf/*-old", "var/lib/apt/lists/*", "var/log/*",
)  # fmt: skip


def debian_base(cache: Path, progress: Progress) -> Path:
    """The layer of a small Debian with Python.

    Raises:
        MissingPrerequisiteError: not root, or no debootstrap.
        ImageError: it failed; the text ends with its log.
    """
    return cached_file(cache, "debian-base", recipe(), lambda path: _bootstrap(path, progress))


def recipe() -> object:
    """All that decides what is in the layer."""
    return [architecture(), SUITE, PACKAGES, _DROPPED]


def _bootstrap(layer: Path, progress: Progress) -> None:
    if os.geteuid() != 0:
        raise MissingPrerequisiteError("building a Debian image needs root: start it with sudo")
    if shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        raise MissingPrerequisiteError(
            "no debootstrap: apt-get install --no-install-recommends debootstrap"
        )
    progress(f"building the Debian {SUITE} base image (about half a minute, once)")
    with tempfile.TemporaryDirectory(dir=layer.parent, ignore_cleanup_errors=True) as work:
        root = Path(work, "root")
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}",
                   SUITE, str(root)]  # fmt: skip
        if mirror := debian_mirror():
            command.append(mirror)
        in_own_mounts(command, "debootstrap")
        for pattern in _DROPPED:
            for dropped in root.glob(pattern):
                if dropped.is_dir() and not dropped.is_symlink():
                    shutil.rmtree(dropped)
                else:
                    dropped.unlink()
        layer_of_directory(root, layer)


def unpack(layer: Path, root: Path) -> None:
    """Makes a root file system out of a layer."""
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", str(layer), "--directory", str(root),
                    "--numeric-owner", "--same-permissions", "--xattrs"], check=True)  # fmt: skip


def run_inside(root: Path, argv: Sequence[str]) -> None:
    """Runs a command in a root file system.

    Raises:
        ImageError: it failed; the text ends with what it said.
    """
    script = 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
    in_own_mounts(["sh", "-c", script, str(root), *argv], argv[0])


def in_own_mounts(command: Sequence[str], name: str) -> None:
    """Runs a command whose mounts, also those it forgets, are gone with it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=env | {"LC_ALL": "C.UTF-8", "PATH": env.get("PATH", os.defpath) + ":/usr/sbin:/sbin"},
        check=False,
    )  # fmt: skip
    if done.returncode:
        tail = done.stdout[-_TAIL_BYTES:].decode(errors="replace").strip()
        raise ImageError(f"{name} failed with exit status {done.returncode}:\n{tail}")


def debian_mirror() -> str | None:
    """The Debian archive apt is set up with; None on another distribution."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(SITE)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    targets = [line.split(" ") for line in done.stdout.splitlines()]
    return next((site for *names, site in targets if names == ["Debian", "Debian"]), None)
