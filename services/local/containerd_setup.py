"""What containerd needs to run here: programs, its configuration, a mount namespace of its own."""

import os
import shutil
from pathlib import Path

from services.local.image import PAUSE
from services.local.process import Daemon, MissingPrerequisiteError

_CONFIG = """\
version = 2
root = "{state}/root"
state = "{state}/run"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_tcp_service = true
  # Without CAP_SYS_RESOURCE no process may be made less likely to be killed for memory.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{state}/cni"
    bin_dir = "{state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""

# Shims put their sockets in /run/containerd whatever the configuration says.
_IN_OWN_MOUNTS = (
    "unshare", "--mount", "--propagation", "slave", "sh", "-c",
    'mkdir -p /run/containerd && mount --bind "$0" /run/containerd && exec "$@"',
)  # fmt: skip

_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "unshare": "util-linux",
    "gcc": "gcc libc6-dev",
}


def require_prerequisites() -> None:
    """Checks that containers can be run at all.

    Raises:
        MissingPrerequisiteError: names all that is missing.
    """
    if os.geteuid() != 0:
        raise MissingPrerequisiteError("running containers needs root: start it with sudo")
    path = _search_path()
    missing = [program for program in _PACKAGES if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(dict.fromkeys(_PACKAGES[program] for program in missing))
        raise MissingPrerequisiteError(
            f"missing {', '.join(missing)}: apt-get install --no-install-recommends {packages}"
        )


def daemon(state: Path, socket: Path) -> Daemon:
    """A containerd that keeps all it has in ``state``; not started yet."""
    path = _search_path()
    for folder in ("cni", "shims", "logs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    config = state / "config.toml"
    runc = shutil.which("runc", path=path)
    config.write_text(_CONFIG.format(state=state, socket=socket, pause=PAUSE, runc=runc))
    return Daemon(
        "containerd",
        [*_IN_OWN_MOUNTS, str(state / "shims"), "containerd", "--config", str(config)],
        log=state / "containerd.log",
        env=os.environ | {"PATH": path},
    )


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
