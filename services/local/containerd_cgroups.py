"""The control groups of pods, laid out as kubelet's cgroupfs driver does, and their removal.

A runtime removes a container's group and leaves the pod's to kubelet; here we are kubelet.
"""

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

_KUBEPODS = Path("kubepods")
_QOS = _KUBEPODS / "besteffort"
_KUBELET = Path("/var/lib/kubelet")
_PATIENCE_SECONDS = 5.0


def parent(pod_uid: str) -> str:
    """The group of a pod, as CRI wants it."""
    return f"/{_pod(pod_uid)}"


def remove(pod_uids: Collection[str]) -> None:
    """Removes the groups of pods that have ended, in every hierarchy; waits for the last process.

    The groups above go too when they are empty, except where a kubelet owns them.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for hierarchy in hierarchies():
        for uid in pod_uids:
            _remove_tree(hierarchy / _pod(uid), deadline)
        if not _KUBELET.exists():
            for group in (hierarchy / _QOS, hierarchy / _KUBEPODS):
                with contextlib.suppress(OSError):
                    group.rmdir()


def hierarchies() -> list[Path]:
    """Where control groups are mounted: one place on cgroup v2, several on v1 and hybrid."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    fields = [line.split() for line in mounts]
    return [Path(where) for _, where, kind, *_ in fields if kind in ("cgroup", "cgroup2")]


def _pod(uid: str) -> Path:
    return _QOS / f"pod{uid}"


def _remove_tree(group: Path, deadline: float) -> None:
    if not group.is_dir():
        return
    for child in group.iterdir():
        if child.is_dir():
            _remove_tree(child, deadline)
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        else:
            return
