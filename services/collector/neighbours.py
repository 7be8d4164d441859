"""Whose the file systems of this node are, and what others use of them.

What another container, or a session of the host, runs of a container counts for that one too (a
debugging container does, through /proc/<pid>/root). What it only reads does not: a scanner of other
containers' files is no use of all of them. What may be a use of a container that is not known yet
waits for it (unclaimed.py).
"""

from collections.abc import Callable

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.unclaimed import Unclaimed
from services.common import metrics
from vexstream.batching import Observation
from vexstream.evidence import Use
from vexstream.relocated import is_script

RUN = Use.EXECUTED | Use.MAPPED
_FIRST_DISK = 1 << 20
"""Device numbers below are of file systems that lie on no disk of their own, as overlays do."""


class Neighbours:
    """File systems, by the container or the mounted image whose they are."""

    def __init__(
        self, hold: Hold, may_use: Callable[[int, Observation], bool] = lambda *_: True
    ) -> None:
        """``hold`` keeps events of which it is not known who did it; ``may_use`` says whether they,
        or others, of a cgroup may be uses of the files of a container."""
        self._hold = hold
        self._may_use = may_use
        self._unclaimed = Unclaimed(hold.bounds)
        self._alone: dict[int, list[Observation]] = {}
        """Device of a file system -> the container, or the mounted image, whose alone it is."""
        self._housed: dict[tuple[int, bytes], Observation] = {}
        """Directory of a file system that many share -> the container that has its root there."""
        self._roots: dict[FileSystemRoot, Observation] = {}
        """The same, as events call it."""

    def is_known(self, device: int) -> bool:
        """The file system is one container's, or one mounted image's, alone."""
        return device in self._alone

    def own(self, device: int, observation: Observation) -> None:
        """A file system is the container's, or the mounted image's, alone."""
        self._alone.setdefault(device, []).append(observation)
        self._claim(device, observation)

    def disown(self, device: int, observation: Observation) -> None:
        """It is so no more; others that share it keep it."""
        left = [one for one in self._alone.pop(device, []) if one is not observation]
        if left:
            self._alone[device] = left

    def root(self, root: FileSystemRoot, observation: Observation) -> None:
        """A container's root was seen."""
        if root.is_top:
            self.own(root.device, observation)
        else:
            self._roots[root] = observation

    def house(self, root: FileSystemRoot, directory: bytes, observation: Observation) -> None:
        """In which directory of a file system that many share a container has its root."""
        self._housed[root.device, directory] = observation
        self._claim(root.device, observation, directory)

    def unroot(self, root: FileSystemRoot, directory: bytes, observation: Observation) -> None:
        """The container's root is gone; what another one has there by now stays that one's."""
        if root.is_top:
            self.disown(root.device, observation)
        if self._roots.get(root) is observation:
            del self._roots[root]
        if self._housed.get((root.device, directory)) is observation:
            del self._housed[root.device, directory]

    def credit(self, event: FileEvent, now_us: int, *, wait: bool = True) -> bool:
        """Whether it is a use of a file of another container than the one that the task is in.

        Where it may be one and that other is not known (yet), the event waits for it.
        """
        entered = self._roots.get(event.root) if event.in_root else None
        if entered is not None and not self._may_use(event.cgroup, entered):
            entered = None
        if entered is not None and event.device == event.root.device:
            return _credit([entered], event, event.path)
        if not event.from_top or not _is_use(event):
            return False
        known = self._alone.get(event.device, ())
        owners = [one for one in known if self._may_use(event.cgroup, one)]
        if owners:
            return _credit(owners, event, event.path)
        path = event.path
        while self._housed and (path := path.rpartition(b"/")[0]):
            lodger = self._housed.get((event.device, path))
            if lodger is not None and self._may_use(event.cgroup, lodger):
                # All live on that file system: only what is run is surely used.
                run = event.use & RUN
                return bool(run) and _credit([lodger], event, event.path.removeprefix(path))
        shared = event.device == event.root.device
        if wait and (event.use & RUN if shared else event.device < _FIRST_DISK):
            self._unclaimed.add(event, now_us)
        return False

    def _claim(self, device: int, observation: Observation, directory: bytes = b"") -> None:
        """It is known now whose a file system is, or a directory of it; what others used of it
        before then is told."""
        below = directory + b"/" if directory else b""
        events, more = self._unclaimed.claim(device, observation.started_at_us, below)
        for event in (*events, *self._hold.on(device)):
            used = event.use & RUN if below else _is_use(event)
            used = used and self._may_use(event.cgroup, observation)
            if used and event.from_top and event.path.startswith(below):
                observation.add(event.path.removeprefix(directory), event.use)
        if more:
            observation.lose("hold_overflow", 1)


def _is_use(event: FileEvent) -> bool:
    """Whether a file that lies elsewhere than the task's own is used, not only looked at."""
    run = bool(event.use & RUN) or event.at_home
    return run or (event.interpreted and is_script(event.path))


def _credit(owners: list[Observation], event: FileEvent, path: bytes) -> bool:
    for owner in owners:
        owner.add(path, event.use)
    metrics.EVENTS.labels("neighbour").inc()
    return True
