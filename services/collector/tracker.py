"""Attributes events to containers, and decides which of them are uses of a file of the image.

No clock: times are given. A file counts when it is on the container's root file system. That one is
learnt from the container's first event: a runtime has pivoted into it by then, and the probe says
nothing of tasks that still have the host's root. What another container runs of it counts too
(neighbours.py); what of a container can be told, and when, is in tracked.py.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.collector.annotations import learning_period_us
from services.collector.bearers import bears_name, name_of
from services.collector.cgroups import CgroupIndex, candidates, in_a_pod
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.hold import Hold
from services.collector.neighbours import RUN, Neighbours
from services.collector.runtime import ContainerInfo, ImageVolume
from services.collector.source import ANY_CGROUP
from services.collector.tracked import Tracked
from services.common import metrics
from vexstream.batching import Limits, Observation, Room
from vexstream.evidence import Batch, Use
from vexstream.identity import Image
from vexstream.nameless import REASON, is_nameless
from vexstream.relocated import is_code, within_volume

_SCAN_INTERVAL_US = 1_000_000
_PAUSE = b"/pause"
"""The program, and the only file, of the image by which runtimes hold a pod's namespaces."""
_MAX_ELSEWHERE = 5000
"""Events kept of a container until it is known where its volumes are."""


class Tracker:
    """The containers of this node under observation."""

    def __init__(
        self,
        *,
        node: str,
        run: str,
        attached_at_us: int,
        index: CgroupIndex,
        hold: Hold,
        limits: Limits,
        room: Room | None = None,
    ) -> None:
        self._node = node
        self._run = run
        self._attached_at_us = attached_at_us
        self.index = index
        self._hold = hold
        self._limits = limits
        self._room = room or Room()
        self._tracked: dict[str, Tracked] = {}
        self._owners: dict[int, str] = {}
        self._bearers: dict[str, list[str]] = {}
        """Names that may come again -> the containers that bear or bore them."""
        self._made: dict[int, tuple[int, int]] = {}
        """When, between two times, a cgroup was made."""
        self._unsure: set[str] = set()
        """Names of which a cgroup was made after the runtime was asked last."""
        self._former: dict[int, str] = {}
        """Cgroups of such that are no longer under observation -> whose they were."""
        self._unowned: set[int] = set()
        """Cgroups of which events were read that are no known container's, since `awaited`."""
        self._neighbours = Neighbours(hold, self._may_use)
        self._now_us = 0
        self._losses: Counter[tuple[int, str]] = Counter()
        self._scanned_at_us = 0
        self._strangers: Counter[str] = Counter()
        """Cgroups that no container was found for -> how much of them was given up."""
        self._missing: set[int] = set()
        """Cgroups of containers that were gone when it was last looked."""

    @property
    def containers(self) -> set[str]:
        """Ids of the containers under observation."""
        return set(self._tracked)

    @property
    def images(self) -> list[Image]:
        """The image of each of them, and those that are mounted into them, where they are known."""
        return [
            observation.image
            for tracked in self._tracked.values()
            for observation in (tracked.observation, *tracked.mounted())
            if not is_nameless(observation.image)
        ]

    @property
    def unplaced(self) -> dict[str, set[str]]:
        """Containers that were started -> paths of volumes to `place`."""
        return {
            container_id: tracked.unplaced
            for container_id, tracked in self._tracked.items()
            if tracked.unplaced and tracked.started
        }

    @property
    def unhoused(self) -> dict[str, FileSystemRoot]:
        """Containers whose root is a directory of a file system that is not theirs alone, of which
        it is not known yet which: to `house`."""
        return {
            container_id: tracked.root
            for container_id, tracked in self._tracked.items()
            if tracked.root is not None and not tracked.root.is_top and not tracked.directory
        }

    def strangers(self) -> Counter[str]:
        """Paths of cgroups that no container was found for, with the number of their uses that were
        given up or lost since this was asked last."""
        found, self._strangers = self._strangers, Counter()
        return found

    def awaited(self) -> set[str]:
        """What may be ids of containers not under observation, by the events that were read since
        this was asked last. Of those that bear a name only who had the cgroup before."""
        found: set[str] = set()
        unowned, self._unowned = self._unowned, set()
        for cgroup in unowned:
            if cgroup in self._former:
                found.add(self._former[cgroup])
            else:
                ids = candidates(self.index.path(cgroup) or "")
                found.update(one for one in ids if not bears_name(one))
        return found

    def is_late(self, info: ContainerInfo) -> bool:
        """The container is older than the observation, and therefore to be seeded."""
        return info.created_at_us < self._attached_at_us

    def begin(self, info: ContainerInfo, root: FileSystemRoot | None = None) -> None:
        """A container became known; what was held of it is attributed.

        ``root`` is that of its first process, where that had been there before the probe: the
        first event may come from a nested container then.
        """
        late = self.is_late(info)
        self._tracked[info.id] = Tracked(
            Observation(
                node=self._node,
                run=self._run,
                container_id=info.id,
                workload=info.workload,
                image=info.image,
                started_at_us=info.created_at_us,
                learning_period_us=learning_period_us(info.learning_period, info.id),
                observed_from_us=self._attached_at_us if late else info.created_at_us,
                limits=self._limits,
                room=self._room,
            ),
            created_at_us=info.created_at_us,
            listed_until_us=info.created_at_us,
            heard=late,
            copied=bool(info.copied),
        )
        if bears_name(info.id):
            self._bearers.setdefault(name_of(info.id), []).append(info.id)
        self._take_root(self._tracked[info.id], root)
        self.mount(info.id, info.volumes)
        metrics.CONTAINERS.set(len(self._tracked))
        self._release_held()

    def mount(self, container_id: str, volumes: Iterable[ImageVolume]) -> None:
        """Images are mounted into a container; those that are known already stay."""
        self._tracked[container_id].mount(volumes)

    def place(self, container_id: str, path: str, device: int | None) -> None:
        """Where a volume of a container is; None when it is no file system of its own."""
        tracked = self._tracked[container_id]
        tracked.unplaced.discard(path)
        if device is not None:
            tracked.devices[device] = list(tracked.volumes[path].values())
            for observation in tracked.devices[device]:
                self._neighbours.own(device, observation)
        waiting, tracked.elsewhere, tracked.told = tracked.elsewhere, [], 0
        for event in waiting:
            self._attribute(container_id, event)

    def house(self, container_id: str, directory: bytes) -> None:
        """In which directory of its file system a container has its root."""
        tracked = self._tracked[container_id]
        if tracked.root is None:
            return
        tracked.directory = directory.rstrip(b"/")
        self._neighbours.house(tracked.root, tracked.directory, tracked.observation)

    def seed(self, container_id: str, files: Iterable[tuple[bytes, Use]]) -> None:
        """What a container that came first had in use."""
        for path, use in files:
            self._tracked[container_id].observation.add(path, use)

    def mark_started(self, container_id: str) -> None:
        """Its first process was started: from now on its cgroup must be known."""
        self._tracked[container_id].started = True

    def listed(self, container_id: str, asked_us: int) -> None:
        """The runtime was asked then, and says that the container is there."""
        self._tracked[container_id].listed_until_us = asked_us
        self._make_sure(container_id)

    def learn(self, container_id: str, image: Image) -> None:
        """Digests and names may come later; another image under the same name is not ours."""
        observation = self._tracked[container_id].observation
        if image.config_digest == observation.image.config_digest:
            observation.learn(image)
        elif is_nameless(observation.image):
            observation.image = image
            observation.lose(REASON, 1)  # what it used before was not kept

    def end(self, container_id: str, ended_at_us: int, exit_code: int | None = None) -> None:
        """A container's last process is gone; the next cut is its last.

        Without an exit code it is only no longer heard of.
        """
        tracked = self._tracked[container_id]
        tracked.ended_at_us, tracked.exit_code = ended_at_us, exit_code
        self._make_sure(container_id)

    def processes(self, container_id: str) -> list[int]:
        """The processes of a container now."""
        cgroups = self._cgroups_of(container_id)
        return [pid for cgroup in cgroups for pid in self.index.processes(cgroup)]

    def handle(self, events: Iterable[RawEvent], now_us: int) -> None:
        """Takes events in the order in which they happened."""
        before_us, self._now_us = self._now_us, now_us
        named: set[int] = set()
        for event in events:
            if isinstance(event, CgroupEvent):
                self.index.learn(event.cgroup, event.path)
                made_us = event.made_at_us
                self._made[event.cgroup] = (made_us or before_us, made_us or now_us)
                named.add(event.cgroup)
                continue
            owner = self._owner(event.cgroup)
            if owner is None:
                self._unowned.add(event.cgroup)
                # A neighbour may be gone by the time that it is known who used its file.
                wait = not self._hold.add(event, now_us)
                self._neighbours.credit(event, now_us, wait=wait)
            else:
                self._attribute(owner, event)
        if named.intersection(self._hold.cgroups()):
            self._release_held()
        self._look_again(now_us)

    def lose(self, totals: Mapping[tuple[int, str], int], *, backing_off: bool = False) -> None:
        """Takes the source's cumulative counts of lost events.

        While backing off, a full ring buffer is this collector's choice, and is said to be.
        """
        for (cgroup, reason), total in totals.items():
            new = total - self._losses[cgroup, reason]
            if new <= 0:
                continue
            self._losses[cgroup, reason] = total
            if backing_off and reason == "ring_buffer":
                reason = "back_off"
            metrics.LOST_EVENTS.labels(reason).inc(new)
            owner = self._owner(cgroup)
            if cgroup == ANY_CGROUP:
                self._lose_everywhere(reason, new)
            elif owner is None:
                self._hold.lose(cgroup, reason, new, self._now_us)
            else:
                self._tracked[owner].observation.lose(reason, new)

    def cut(self, until_us: int) -> list[Batch]:
        """Ends every container's interval; those that ended are forgotten."""
        batches: list[Batch] = []
        for container_id, tracked in list(self._tracked.items()):
            for event in tracked.elsewhere[tracked.told :]:  # they belong to this interval
                self._attribute(container_id, event, wait=False)
            tracked.told = len(tracked.elsewhere)
            if self._can_be_told(container_id, tracked, until_us):
                batches += tracked.cut(until_us)
            if tracked.is_over:
                self._forget(container_id)
        return batches

    def forget_gone_cgroups(self) -> list[int]:
        """Drops cgroups that were gone the last time too, for their last events have been handled
        by then; returns their ids. A container that makes and removes cgroups must not fill the
        memory.
        """
        missing = self.index.missing()
        gone = missing & self._missing
        self._missing = missing - gone
        held = gone.intersection(self._hold.cgroups())
        for cgroup, heir in self.index.heirs(held, gone).items():
            self._hold.pass_on(cgroup, heir)
        for cgroup in gone:
            path = self.index.path(cgroup) or ""
            self.index.forget(cgroup)
            noted = self._hold.expired(cgroup)
            events, lost = self._hold.take(cgroup)
            for event in events:
                self._neighbours.credit(event, self._now_us)
            self._made.pop(cgroup, None)
            self._note_stranger(cgroup, path, events, lost.total() - noted)
            self._former.pop(cgroup, None)
            if owner := self._owners.pop(cgroup, None):
                self._tracked[owner].cgroups.discard(cgroup)
        for key in [key for key in self._losses if key[0] in gone]:
            del self._losses[key]
        return sorted(gone)

    def _owner(self, cgroup: int) -> str | None:
        owner = self._owners.get(cgroup)
        if owner is not None:
            return owner
        path = self.index.path(cgroup)
        if path is None:
            return None
        for candidate in candidates(path):
            if candidate in self._bearers:
                # What lies within is its own, too, and no other's.
                return self._adopt(cgroup, path, self._maker(cgroup, candidate))
            if candidate in self._tracked:
                return self._adopt(cgroup, path, candidate)
        return None

    def _maker(self, cgroup: int, name: str) -> str | None:
        """Whose of those that bear a name a cgroup is, by the time at which it was made. None: it
        was made after the runtime was asked last, or it is not sure."""
        unseen = (0, self._scanned_at_us or self._attached_at_us)
        first_us, last_us = self._made.get(cgroup, unseen)
        made = {one: self._tracked[one].made(first_us, last_us) for one in self._bearers[name]}
        makers = [one for one, whether in made.items() if whether is not False]
        if len(makers) == 1 and made[makers[0]]:
            return makers[0]
        self._unsure.add(name)
        return None

    def _make_sure(self, container_id: str) -> None:
        """More is known of when a container was there."""
        if name_of(container_id) in self._unsure:
            self._unsure.discard(name_of(container_id))
            self._release_held()

    def _may_use(self, cgroup: int, of: Observation) -> bool:
        """No container uses files of another one that bore its name: that one was gone before."""
        name = name_of(of.container_id)
        return name not in self._bearers or name not in candidates(self.index.path(cgroup) or "")

    def _adopt(self, cgroup: int, path: str, container_id: str | None) -> str | None:
        if container_id is None:
            return None
        tracked = self._tracked[container_id]
        if any(self.index.path(known) == path for known in tracked.cgroups):
            self._unmount(tracked)  # started again: all is mounted anew
            tracked.unplaced = set(tracked.volumes)
        self._owners[cgroup] = container_id
        tracked.cgroups.add(cgroup)
        return container_id

    def _cgroups_of(self, container_id: str) -> list[int]:
        cgroups = self.index.ids_of(name_of(container_id))
        if not bears_name(container_id):
            return cgroups
        return [cgroup for cgroup in cgroups if self._owner(cgroup) == container_id]

    def _take_root(self, tracked: Tracked, root: FileSystemRoot | None) -> None:
        tracked.root = root
        if root is not None:
            self._neighbours.root(root, tracked.observation)

    def _unmount(self, tracked: Tracked) -> None:
        if tracked.root is not None:
            self._neighbours.unroot(tracked.root, tracked.directory, tracked.observation)
        for device, volumes in tracked.devices.items():
            for volume in volumes:
                self._neighbours.disown(device, volume)
        tracked.root, tracked.directory, tracked.devices = None, b"", {}

    def _attribute(self, container_id: str, event: FileEvent, *, wait: bool = True) -> None:
        tracked = self._tracked[container_id]
        if tracked.root is None:
            self._take_root(tracked, event.root)
        root = tracked.root or event.root
        same_root = event.root == root
        whole = event.from_top and root.is_top
        if event.device == root.device and (whole or (event.in_root and same_root)):
            tracked.observation.add(event.path, event.use)
            tracked.heard |= bool(event.use & Use.EXECUTED)
            metrics.EVENTS.labels("attributed").inc()
            return
        volumes = tracked.devices.get(event.device)
        if volumes is not None and event.from_top:
            for volume in volumes:
                volume.add(event.path, event.use)
            metrics.EVENTS.labels("image_volume").inc()
            return
        if self._neighbours.credit(event, self._now_us):
            return
        if wait and tracked.unplaced and event.from_top and len(tracked.elsewhere) < _MAX_ELSEWHERE:
            tracked.elsewhere.append(event)
            return
        on_volume = same_root and not self._neighbours.is_known(event.device)
        if on_volume and is_code(event.path, run=bool(event.use & RUN)):
            # On a volume: what the runtime or an earlier container has copied there, perhaps.
            tracked.observation.add(within_volume(event.path), event.use | Use.REWRITTEN)
            metrics.EVENTS.labels("volume").inc()
            return
        metrics.EVENTS.labels("not_image").inc()
        # A namespace within the container shows a part of its root file system somewhere else;
        # where that part is in the image cannot be told.
        if event.device == root.device and not same_root:
            tracked.observation.lose("nested_root", 1)

    def _release_held(self) -> None:
        for cgroup in self._hold.cgroups():
            owner = self._owner(cgroup)
            if owner is None:
                continue
            events, lost = self._hold.take(cgroup)
            for event in events:
                self._attribute(owner, event)
            for reason, count in lost.items():
                self._tracked[owner].observation.lose(reason, count)

    def _look_again(self, now_us: int) -> None:
        unknown = [c for c in self._hold.cgroups() if self.index.path(c) is None]
        if unknown and not 0 <= now_us - self._scanned_at_us < _SCAN_INTERVAL_US:
            self._scanned_at_us = now_us
            self.index.scan()
            self._release_held()
        for cgroup, events in self._hold.expire(now_us).items():
            # No container's: a service of the host, which may have entered one (nsenter).
            strange = [e for e in events if not self._neighbours.credit(e, self._now_us)]
            metrics.EVENTS.labels("unattributed").inc(len(strange))
            path = self.index.path(cgroup)
            if path is not None:
                self._note_stranger(cgroup, path, events)
            else:  # it may have been any container's
                more, _ = self._hold.take(cgroup)
                self._lose_everywhere("unattributed", len(events) + len(more))
        for cgroup in self._hold.forsaken(now_us):
            if self.index.path(cgroup) is None:
                for reason, count in self._hold.take(cgroup)[1].items():
                    self._lose_everywhere(reason, count)

    def _note_stranger(
        self, cgroup: int, path: str, events: Iterable[FileEvent], lost: int = 0
    ) -> None:
        """A pod's sandbox that nobody told of is no loss: there is only its program to use."""
        sandbox = in_a_pod(path) is not None
        uses = sum(not (sandbox and event.path == _PAUSE) for event in events)
        if uses + lost and cgroup not in self._former:
            self._strangers[path] += uses + lost

    def _can_be_told(self, container_id: str, tracked: Tracked, until_us: int) -> bool:
        if tracked.wait_for_start(until_us):
            return False
        if not tracked.cgroups:
            for cgroup in self._cgroups_of(container_id):
                self._owner(cgroup)
        return tracked.can_be_told(until_us)

    def _lose_everywhere(self, reason: str, count: int) -> None:
        for tracked in self._tracked.values():
            tracked.observation.lose(reason, count)

    def _forget(self, container_id: str) -> None:
        self._unmount(self._tracked.pop(container_id))
        former = {c for c, owner in self._owners.items() if owner == container_id}
        for cgroup in former:
            del self._owners[cgroup]
        if bears_name(container_id):
            self._former |= dict.fromkeys(former, container_id)
            bearers = self._bearers[name_of(container_id)]
            bearers.remove(container_id)
            if not bearers:
                del self._bearers[name_of(container_id)]
                self._unsure.discard(name_of(container_id))
        metrics.CONTAINERS.set(len(self._tracked))
