"""From cgroup v2 ids to paths, and from paths to what may be container ids in them."""

import os
import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from services.collector.errors import CgroupError
from services.common.mounts import parse_mountinfo

_SCOPE = re.compile(
    r"(?:cri-containerd-|crio-|docker-|libpod-(?:payload-)?|nerdctl-)?(.+?)(?:\.scope|\.service)?\Z"
)


_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_OF_CRI = ("cri-containerd-", "crio-")
_PODS_OF_PODMAN = "libpod_parent"
"""Below it a pod's id comes before its containers'."""


def find_root(configured: Path | None, mountinfo: Path = Path("/proc/self/mountinfo")) -> Path:
    """Where the unified hierarchy is mounted.

    Raises:
        CgroupError: nowhere.
    """
    if configured is not None:
        if not (configured / "cgroup.procs").exists():
            raise CgroupError(f"VEXSTREAM_CGROUP_ROOT names {configured}, which is no cgroup v2")
        return configured
    for mount in parse_mountinfo(mountinfo.read_bytes()):
        point = Path(os.fsdecode(mount.point))
        if mount.fs_type == "cgroup2" and (point / "cgroup.procs").exists():
            return point
    raise CgroupError(
        "no cgroup v2 hierarchy is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
    )


def candidates(path: str) -> list[str]:
    """What may be container ids in a cgroup path, the outermost first.

    The outermost, because a container can make cgroups of any name within its own: below the first
    name that only a container has, nothing else counts, whether that container is known or not.

    Knows the path styles of CRI and docker with cgroupfs (``/kubepods/burstable/pod<uid>/<id>``),
    with systemd (``….slice/cri-containerd-<id>.scope``, ``crio-``, ``docker-``), of podman
    (``libpod-<id>``; ``<unit>.service/libpod-payload-<id>`` as a Quadlet's) and of ctr
    (``/<namespace>/<id>``, which gives ``<namespace>/<id>`` too).
    """
    ids = []
    above = ""
    for component in path.strip("/").split("/"):
        match = _SCOPE.match(component)
        if match:
            ids += [f"{above}/{component}", match[1]] if above else [match[1]]
            is_pod = above == _PODS_OF_PODMAN and component == match[1]
            if _CONTAINER_ID.fullmatch(match[1]) and not is_pod:
                break
        above = component
    return ids


def outermost(path: str, container_id: str) -> str:
    """The cgroup of a container itself, of which this one is or in which it lies."""
    own = ""
    for component in path.strip("/").split("/"):
        own += f"/{component}"
        if container_id in candidates(own):
            break
    return own


def in_a_pod(path: str) -> str | None:
    """The id of the container of a Kubernetes pod, or of the pod's sandbox, whose cgroup that is;
    None when it is neither's."""
    pods = False
    for component in path.strip("/").split("/"):
        match = _SCOPE.match(component)
        if match and _CONTAINER_ID.fullmatch(match[1]):
            return match[1] if pods or component.startswith(_OF_CRI) else None
        pods |= "kubepods" in component
    return None


class CgroupIndex:
    """Remembers the path of every cgroup seen: a short-lived one is gone before it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._paths: dict[int, str] = {}
        self._above = ""

    @property
    def paths(self) -> Mapping[int, str]:
        """Every cgroup that is known, with its path below the hierarchy's root."""
        return self._paths

    def learn(self, cgroup: int, path: str) -> None:
        """The kernel said that this cgroup was made.

        Its path begins at the kernel's root, which is above ours where the node is a container.
        """
        above = self._seen_below(cgroup, path)
        if above is not None:
            self._above = above
        self._paths[cgroup] = path.removeprefix(self._above) or "/"

    def _seen_below(self, cgroup: int, path: str) -> str | None:
        """The part of a path that lies above our root; None when the cgroup is gone."""
        names = path.strip("/").split("/")
        for depth in range(len(names)):
            try:
                inode = os.stat(self.root.joinpath(*names[depth:])).st_ino
            except OSError:
                continue
            if inode == cgroup:
                return "".join(f"/{name}" for name in names[:depth])
        return None

    def scan(self) -> None:
        """Learns every cgroup that is there now."""
        for directory, _, _ in os.walk(self.root):
            try:
                inode = os.stat(directory).st_ino
            except OSError:  # removed meanwhile
                continue
            self._paths[inode] = "/" + os.path.relpath(directory, self.root).removeprefix(".")

    def path(self, cgroup: int) -> str | None:
        """Path below the hierarchy's root."""
        return self._paths.get(cgroup)

    def heirs(self, cgroups: Iterable[int], gone: Set[int]) -> dict[int, int]:
        """For each of them the nearest cgroup above that is not gone and as much a container's."""
        there = {path: cgroup for cgroup, path in self._paths.items() if cgroup not in gone}
        found: dict[int, int] = {}
        for cgroup in cgroups:
            above = path = self._paths.get(cgroup, "")
            while above and above not in there:
                above = above.rpartition("/")[0]
            if above and candidates(above) == candidates(path):
                found[cgroup] = there[above]
        return found

    def ids_of(self, container_id: str) -> list[int]:
        """The cgroups that belong to a container, those within it included."""
        return [cgroup for cgroup, path in self._paths.items() if container_id in candidates(path)]

    def above(self, cgroup: int, path: str) -> int | None:
        """The cgroup by a path above another one's in which that was made: of those that have had
        it, the last that became known before."""
        found = None
        for one, known in self._paths.items():
            if one == cgroup:
                break
            if known == path:
                found = one
        return found

    def missing(self) -> set[int]:
        """What is not there any more."""
        return {
            cgroup
            for cgroup, path in self._paths.items()
            if not (self.root / path.lstrip("/")).exists()
        }

    def forget(self, cgroup: int) -> None:
        """Nothing more is to come of it."""
        del self._paths[cgroup]

    def processes(self, cgroup: int) -> list[int]:
        """The processes that are in the cgroup now."""
        path = self._paths.get(cgroup)
        if path is None:
            return []
        try:
            text = (self.root / path.lstrip("/") / "cgroup.procs").read_text()
        except OSError:
            return []
        return [int(line) for line in text.split() if line != "0"]
