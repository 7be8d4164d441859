"""Which accesses of a container are uses of a file of its image, or of one that is mounted into it.

A file counts when it is on the container's root file system. That one is learnt from its first
event: a runtime has pivoted into it by then, and the probe says nothing of tasks that still have
the host's root. What another container runs of it counts too (neighbours.py).
"""

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.neighbours import RUN, Neighbours
from services.collector.tracked import Tracked
from services.common import metrics
from vexstream.evidence import Use
from vexstream.relocated import is_code, within_volume

_MAX_ELSEWHERE = 5000
"""Events kept of a container until it is known where its volumes are."""


class Uses:
    """Of the containers of a node, whose file systems the neighbours know."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    def take(self, tracked: Tracked, event: FileEvent, now_us: int, *, wait: bool = True) -> None:
        """An access of a container. What may be one of a volume waits until it is known where that
        is, unless it must not."""
        if tracked.root is None:
            self.root(tracked, event.root)
        tracked.heard |= _starts(tracked, event)
        if _on_its_root(tracked, event):
            tracked.observation.add(event.path, event.use)
            metrics.EVENTS.labels("attributed").inc()
        elif _on_an_image_volume(tracked, event):
            metrics.EVENTS.labels("image_volume").inc()
        elif self._neighbours.credit(event, now_us):
            return
        elif wait and _may_be_placed(tracked, event):
            tracked.elsewhere.append(event)
        else:
            self._take_strange(tracked, event)

    def tell_waiting(self, tracked: Tracked, now_us: int) -> None:
        """What waits for a volume's place is told now, as what it is if it is on none."""
        for event in tracked.elsewhere[tracked.told :]:
            self.take(tracked, event, now_us, wait=False)
        tracked.told = len(tracked.elsewhere)

    def root(self, tracked: Tracked, root: FileSystemRoot | None) -> None:
        """What a container's root is."""
        tracked.root = root
        if root is not None:
            self._neighbours.root(root, tracked.observation)

    def house(self, tracked: Tracked, directory: bytes) -> None:
        """In which directory of its file system a container has its root."""
        if tracked.root is None:
            return
        tracked.directory = directory.rstrip(b"/")
        self._neighbours.house(tracked.root, tracked.directory, tracked.observation)

    def place(self, tracked: Tracked, path: str, device: int | None, now_us: int) -> None:
        """Where a volume of a container is; None when it is no file system of its own."""
        tracked.unplaced.discard(path)
        if device is not None:
            tracked.devices[device] = list(tracked.volumes[path].values())
            for observation in tracked.devices[device]:
                self._neighbours.own(device, observation)
        waiting, tracked.elsewhere, tracked.told = tracked.elsewhere, [], 0
        for event in waiting:
            self.take(tracked, event, now_us)

    def unmount(self, tracked: Tracked) -> None:
        """Its file systems are gone."""
        if tracked.root is not None:
            self._neighbours.unroot(tracked.root, tracked.directory, tracked.observation)
        for device, volumes in tracked.devices.items():
            for volume in volumes:
                self._neighbours.disown(device, volume)
        tracked.root, tracked.directory, tracked.devices = None, b"", {}

    def remount(self, tracked: Tracked) -> None:
        """It was started again: all is mounted anew."""
        self.unmount(tracked)
        tracked.unplaced = set(tracked.volumes)

    def _take_strange(self, tracked: Tracked, event: FileEvent) -> None:
        root = tracked.root or event.root
        same_root = event.root == root
        on_volume = same_root and not self._neighbours.is_known(event.device)
        if on_volume and is_code(event.path, run=bool(event.use & RUN)):
            # What the runtime or an earlier container has copied there, perhaps.
            tracked.observation.add(within_volume(event.path), event.use | Use.REWRITTEN)
            metrics.EVENTS.labels("volume").inc()
            return
        metrics.EVENTS.labels("not_image").inc()
        # A namespace within the container shows a part of its root file system somewhere else;
        # where that part is in the image cannot be told.
        if event.device == root.device and not same_root:
            tracked.observation.lose("nested_root", 1)


def _starts(tracked: Tracked, event: FileEvent) -> bool:
    """Whether it shows that programs of the container are processes of this kernel: a program of
    the image itself starts, of whatever runtime nothing else is known; or any program does, of
    which the runtime is known to bring no kernel.

    Others start their own in the container's cgroup: gVisor on a root in memory (seen with a runsc
    of 2025, whose root is a tmpfs whatever it opens and maps of the image; its sources:
    ``runsc/cmd/chroot.go``), Firecracker's jailer in a directory of the node, urunc on the root of
    the image, where it has mounted its monitor or copied it to.
    """
    if not event.use & Use.EXECUTED or event.root != tracked.root:
        return False
    on_root = _on_its_root(tracked, event)
    if tracked.native:
        return on_root or event.on_overlay
    return on_root and event.on_overlay and not event.use & Use.REWRITTEN


def _on_its_root(tracked: Tracked, event: FileEvent) -> bool:
    root = tracked.root or event.root
    whole = event.from_top and root.is_top
    return event.device == root.device and (whole or (event.in_root and event.root == root))


def _on_an_image_volume(tracked: Tracked, event: FileEvent) -> bool:
    """Adds it to the images that are, or may be, mounted there."""
    volumes = tracked.devices.get(event.device)
    if volumes is None or not event.from_top:
        return False
    for volume in volumes:
        volume.add(event.path, event.use)
    return True


def _may_be_placed(tracked: Tracked, event: FileEvent) -> bool:
    return bool(tracked.unplaced) and event.from_top and len(tracked.elsewhere) < _MAX_ELSEWHERE
