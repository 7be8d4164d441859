"""Attributes events to containers, and says what there is to tell of them.

No clock: times are given. Whose an event is says the cgroup of the task (whose.py), whether it is a
use of the image the file (uses.py); what of a container can be told, and when, is in tracked.py.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from services.collector.annotations import learning_period_us
from services.collector.cgroups import CgroupIndex, in_a_pod
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.hold import Hold
from services.collector.neighbours import Neighbours
from services.collector.pauses import PAUSE
from services.collector.runtime import ContainerInfo, ImageVolume
from services.collector.source import ANY_CGROUP
from services.collector.tracked import Past, Tracked
from services.collector.uses import Uses
from services.collector.whose import Whose
from services.common import metrics
from vexstream.batching import Limits, Observation, Room
from vexstream.evidence import Batch, Use
from vexstream.identity import Image
from vexstream.nameless import is_nameless

_MAX_ENDED = 4000
"""Of those that ended before them the next life is told from the creation on."""


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
        self._whose = Whose(index, self._tracked, attached_at_us, self._restart)
        self._neighbours = Neighbours(hold, self._whose.may_use)
        self._uses = Uses(self._neighbours)
        self._now_us = 0
        self._losses: Counter[tuple[int, str]] = Counter()
        self._ended: OrderedDict[str, Past] = OrderedDict()
        self._everyones: dict[str, int | None] = {}
        """Why something was lost that may be anyone's -> until when it may have been at the latest;
        None until events are taken again: losses are read after the time is."""
        self._strangers: Counter[str] = Counter()
        """Cgroups that no container was found for -> how much of them was given up."""
        self._paused: dict[str, set[int]] = {}
        """Those of pods -> which files by the name of a sandbox's program they used."""
        self._unowned: set[int] = set()
        """Cgroups of which events were read that are no known container's, since `awaited`."""

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

    def paused(self) -> dict[str, set[int]]:
        """Of such cgroups of pods: the inodes of the files by the name of a sandbox's program that
        they used, which are no strangers' if they are sandboxes' (pauses.py)."""
        found, self._paused = self._paused, {}
        return found

    def awaited(self) -> set[str]:
        """What may be ids of containers not under observation, by the events that were read since
        this was asked last. Of those that bear a name only who had the cgroup before."""
        unowned, self._unowned = self._unowned, set()
        return {one for cgroup in unowned for one in self._whose.may_be(cgroup)}

    def is_late(self, info: ContainerInfo) -> bool:
        """The container is older than the observation, and therefore to be seeded."""
        return info.created_at_us < self._attached_at_us

    def begin(self, info: ContainerInfo, root: FileSystemRoot | None = None) -> None:
        """A container became known; what was held of it is attributed.

        ``root`` is that of its first process, where that had been there before the probe: the
        first event may come from a nested container then.
        """
        late = self.is_late(info)
        tracked = self._tracked[info.id] = Tracked(
            self._observation(info),
            created_at_us=info.created_at_us,
            listed_until_us=info.created_at_us,
            heard=late,
            native=info.native,
            copied=bool(info.copied),
        )
        tracked.identify(info.image)
        for reason, until_us in self._everyones.items():
            if until_us is None or tracked.observation.observed_from_us <= until_us:
                tracked.observation.lose(reason, 1)
        self._whose.begin(info.id)
        before = self._before(info)
        if before is not None:  # it is still the same life, unless its cgroup is another one
            tracked.life, tracked.heard = before.life, before.heard
            root = root or before.root
        self._uses.root(tracked, root)
        self.mount(info.id, info.volumes)
        metrics.CONTAINERS.set(len(self._tracked))
        self._release_held()

    def mount(self, container_id: str, volumes: Iterable[ImageVolume]) -> None:
        """Images are mounted into a container; those that are known already stay."""
        self._tracked[container_id].mount(volumes)

    def place(self, container_id: str, path: str, device: int | None) -> None:
        """Where a volume of a container is; None when it is no file system of its own."""
        self._uses.place(self._tracked[container_id], path, device, self._now_us)

    def house(self, container_id: str, directory: bytes) -> None:
        """In which directory of its file system a container has its root."""
        self._uses.house(self._tracked[container_id], directory)

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
        self._tracked[container_id].learn(image)

    def end(self, container_id: str, ended_at_us: int, exit_code: int | None = None) -> None:
        """A container's last process is gone; the next cut is its last.

        Without an exit code it is only no longer heard of.
        """
        tracked = self._tracked[container_id]
        tracked.ended_at_us, tracked.exit_code = ended_at_us, exit_code
        self._make_sure(container_id)

    def miss(self, container_id: str, now_us: int) -> bool:
        """A container's last process is gone, and nobody tells how it ended: whether the next cut
        is its last all the same, for that was waited for long enough."""
        tracked = self._tracked[container_id]
        tracked.miss(now_us)
        if tracked.is_over:
            self._make_sure(container_id)
        return tracked.is_over

    def found(self, container_id: str) -> None:
        """A container that was missed, or had ended, is there again."""
        self._tracked[container_id].find()

    def processes(self, container_id: str) -> list[int]:
        """The processes of a container now."""
        cgroups = self._whose.cgroups_of(container_id)
        return [pid for cgroup in cgroups for pid in self.index.processes(cgroup)]

    def clock_set_back(self, by_us: int) -> None:
        """What happens from now on is told in times that may have been before."""
        self._whose.clock_set_back(by_us)

    def handle(self, events: Iterable[RawEvent], now_us: int) -> None:
        """Takes events in the order in which they happened."""
        before_us, self._now_us = self._now_us, now_us
        for reason in [reason for reason, until in self._everyones.items() if until is None]:
            self._everyones[reason] = now_us
        named: set[int] = set()
        for event in events:
            if isinstance(event, CgroupEvent):
                self._whose.learn(event, before_us, now_us)
                named.add(event.cgroup)
            else:
                self._take(event)
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
            ours = backing_off and reason == "ring_buffer"
            self._lose(cgroup, "back_off" if ours else reason, new)

    def lose_of(self, container_id: str, reason: str, count: int) -> None:
        """Events of a container were lost before it was known."""
        self._tracked[container_id].observation.lose(reason, count)

    def cut(self, until_us: int) -> list[Batch]:
        """Ends every container's interval; those that ended are forgotten."""
        batches: list[Batch] = []
        for container_id, tracked in list(self._tracked.items()):
            self._uses.tell_waiting(tracked, self._now_us)  # it belongs to this interval
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
        gone = self._whose.gone()
        held = gone.intersection(self._hold.cgroups())
        for cgroup, heir in self.index.heirs(held, gone).items():
            self._hold.pass_on(cgroup, heir)
        for cgroup in gone:
            self._forget_cgroup(cgroup)
        for key in [key for key in self._losses if key[0] in gone]:
            del self._losses[key]
        return sorted(gone)

    def _observation(self, info: ContainerInfo) -> Observation:
        from_us = self._attached_at_us if self.is_late(info) else info.created_at_us
        before = self._before(info)
        if before is not None:  # its first life stays as it is
            from_us = max(from_us, before.told_until_us)
        return Observation(
            node=self._node,
            run=self._run,
            container_id=info.id,
            workload=info.workload,
            image=info.image,
            started_at_us=info.created_at_us,
            learning_period_us=learning_period_us(info.learning_period, info.id),
            observed_from_us=from_us,
            limits=self._limits,
            room=self._room,
        )

    def _before(self, info: ContainerInfo) -> Past | None:
        """The container when all was told of it, if it is there again."""
        before = self._ended.get(info.id)
        return before if before and before.created_at_us == info.created_at_us else None

    def _restart(self, tracked: Tracked) -> None:
        self._uses.tell_waiting(tracked, self._now_us)
        self._uses.remount(tracked)

    def _make_sure(self, container_id: str) -> None:
        if self._whose.reconsider(container_id):
            self._release_held()

    def _take(self, event: FileEvent) -> None:
        owner = self._whose.owner(event.cgroup)
        if owner is None:
            self._unowned.add(event.cgroup)
            # A neighbour may be gone by the time that it is known who used its file.
            wait = not self._hold.add(event, self._now_us)
            self._neighbours.credit(event, self._now_us, wait=wait)
        else:
            self._uses.take(self._tracked[owner], event, self._now_us)

    def _lose(self, cgroup: int, reason: str, count: int) -> None:
        metrics.LOST_EVENTS.labels(reason).inc(count)
        owner = self._whose.owner(cgroup)
        if cgroup == ANY_CGROUP:
            self._lose_everywhere(reason, count)
        elif owner is None:
            self._hold.lose(cgroup, reason, count, self._now_us)
        else:
            self._tracked[owner].observation.lose(reason, count)

    def _forget_cgroup(self, cgroup: int) -> None:
        noted = self._hold.expired(cgroup)
        events, lost = self._hold.take(cgroup)
        for event in events:
            self._neighbours.credit(event, self._now_us)
        if not self._whose.was_known(cgroup):
            self._note_stranger(self.index.path(cgroup) or "", events, lost.total() - noted)
        self._whose.forget(cgroup)

    def _release_held(self) -> None:
        for cgroup in self._hold.cgroups():
            owner = self._whose.owner(cgroup)
            if owner is None:
                continue
            events, lost = self._hold.take(cgroup)
            for event in events:
                self._uses.take(self._tracked[owner], event, self._now_us)
            for reason, count in lost.items():
                self._tracked[owner].observation.lose(reason, count)

    def _look_again(self, now_us: int) -> None:
        unknown = [c for c in self._hold.cgroups() if self.index.path(c) is None]
        if unknown and self._whose.scan(now_us):
            self._release_held()
        for cgroup, events in self._hold.expire(now_us).items():
            self._give_up(cgroup, events)
        for cgroup in self._hold.cgroups():
            path = self.index.path(cgroup)
            if path is not None and not self._whose.was_known(cgroup):
                self._note_stranger(path, (), self._hold.overdue(cgroup, now_us))
        for cgroup in self._hold.forsaken(now_us):
            if self.index.path(cgroup) is None:
                for reason, count in self._hold.take(cgroup)[1].items():
                    self._lose_everywhere(reason, count)

    def _give_up(self, cgroup: int, events: list[FileEvent]) -> None:
        """No container's: a service of the host, which may have entered one (nsenter)."""
        strange = [e for e in events if not self._neighbours.credit(e, self._now_us)]
        metrics.EVENTS.labels("unattributed").inc(len(strange))
        path = self.index.path(cgroup)
        if path is None:  # it may have been any container's
            more, _ = self._hold.take(cgroup)
            self._lose_everywhere("unattributed", len(events) + len(more))
        elif not self._whose.was_known(cgroup):
            self._note_stranger(path, events)

    def _note_stranger(self, path: str, events: Iterable[FileEvent], lost: int = 0) -> None:
        uses, sandbox = lost, in_a_pod(path) is not None
        for event in events:
            if sandbox and event.path == PAUSE and not event.use & Use.REWRITTEN:
                self._paused.setdefault(path, set()).add(event.inode)
            else:
                uses += 1
        if uses:
            self._strangers[path] += uses

    def _can_be_told(self, container_id: str, tracked: Tracked, until_us: int) -> bool:
        if tracked.wait_for_start(until_us):
            return False
        if not tracked.cgroups:
            for cgroup in self._whose.cgroups_of(container_id):
                self._whose.owner(cgroup)
        return tracked.can_be_told(until_us)

    def _lose_everywhere(self, reason: str, count: int) -> None:
        """Also of containers that are there, and become known later."""
        self._everyones[reason] = None
        for tracked in self._tracked.values():
            tracked.observation.lose(reason, count)

    def _forget(self, container_id: str) -> None:
        tracked = self._tracked.pop(container_id)
        self._ended[container_id] = tracked.past()
        self._ended.move_to_end(container_id)
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
        self._uses.unmount(tracked)
        self._whose.end(container_id)
        metrics.CONTAINERS.set(len(self._tracked))
