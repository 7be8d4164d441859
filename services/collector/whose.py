"""Whose a cgroup is: the container's that its path names.

Where a name may come again (bearers.py), it is the one's that bore it when the cgroup was made; as
long as that is not sure it is nobody's. No clock: times are given.
"""

from collections.abc import Callable, Mapping

from services.collector.bearers import bears_name, name_of
from services.collector.cgroups import CgroupIndex, candidates, outermost
from services.collector.events import CgroupEvent
from services.collector.tracked import Tracked
from vexstream.batching import Observation

_SCAN_INTERVAL_US = 1_000_000


class Whose:
    """The cgroups of the containers under observation."""

    def __init__(
        self,
        index: CgroupIndex,
        tracked: Mapping[str, Tracked],
        attached_at_us: int,
        restarted: Callable[[Tracked], None],
    ) -> None:
        """``tracked`` are the containers, as they come and go; ``restarted`` is told of one that
        was started again."""
        self._index = index
        self._tracked = tracked
        self._restarted = restarted
        self._owners: dict[int, str] = {}
        self._bearers: dict[str, list[str]] = {}
        """Names that may come again -> the containers that bear or bore them."""
        self._made: dict[int, tuple[int, int]] = {}
        """When, between two times, a cgroup was made."""
        self._scanned_at_us = 0
        self._there_before_us = attached_at_us
        """What was made unseen was there before then."""
        self._unsure: set[str] = set()
        """Names of which a cgroup was made after the runtime was asked last."""
        self._former: dict[int, str] = {}
        """Cgroups of such that are no longer under observation -> whose they were."""
        self._missing: set[int] = set()
        """Cgroups that were gone when it was last looked."""

    def begin(self, container_id: str) -> None:
        """A container came under observation."""
        if bears_name(container_id):
            self._bearers.setdefault(name_of(container_id), []).append(container_id)

    def end(self, container_id: str) -> None:
        """It is no more; what is still heard of its cgroups is no stranger's."""
        former = {c for c, owner in self._owners.items() if owner == container_id}
        for cgroup in former:
            del self._owners[cgroup]
        if not bears_name(container_id):
            return
        self._former |= dict.fromkeys(former, container_id)
        name = name_of(container_id)
        self._bearers[name].remove(container_id)
        if not self._bearers[name]:
            del self._bearers[name]
            self._unsure.discard(name)

    def learn(self, event: CgroupEvent, before_us: int, now_us: int) -> None:
        """A cgroup was made: where the event does not say when, then between these times."""
        self._index.learn(event.cgroup, event.path)
        made_us = event.made_at_us
        self._made[event.cgroup] = (made_us or before_us, made_us or now_us)

    def clock_set_back(self, by_us: int) -> None:
        """What is known of before is to be told from what comes in the same times."""
        self._made = {
            cgroup: (first_us - by_us, last_us - by_us)
            for cgroup, (first_us, last_us) in self._made.items()
        }
        self._there_before_us -= by_us
        for bearers in self._bearers.values():
            for one in bearers:
                self._tracked[one].clock_set_back(by_us)

    def scan(self, now_us: int) -> bool:
        """Looks for cgroups that nobody told of, unless that was done a moment ago; whether it
        was."""
        if 0 <= now_us - self._scanned_at_us < _SCAN_INTERVAL_US:
            return False
        self._scanned_at_us = self._there_before_us = now_us
        self._index.scan()
        return True

    def owner(self, cgroup: int) -> str | None:
        """The container; None when there is none, or none yet."""
        owner = self._owners.get(cgroup)
        if owner is not None:
            return owner
        path = self._index.path(cgroup)
        if path is None:
            return None
        owner = self._named(cgroup, path)
        if owner is not None:
            self._adopt(cgroup, path, owner)
        return owner

    def cgroups_of(self, container_id: str) -> list[int]:
        """Its cgroups, those within it included."""
        cgroups = self._index.ids_of(name_of(container_id))
        if not bears_name(container_id):
            return cgroups
        return [cgroup for cgroup in cgroups if self.owner(cgroup) == container_id]

    def reconsider(self, container_id: str) -> bool:
        """More is known of when a container was there; whether a cgroup waited for that."""
        name = name_of(container_id)
        unsure = name in self._unsure
        self._unsure.discard(name)
        return unsure

    def may_use(self, cgroup: int, of: Observation) -> bool:
        """No container uses files of another one that bore its name: that one was gone before."""
        name = name_of(of.container_id)
        return name not in self._bearers or name not in candidates(self._index.path(cgroup) or "")

    def was_known(self, cgroup: int) -> bool:
        """It was that of a container that is no longer under observation, and bore a name."""
        return cgroup in self._former

    def may_be(self, cgroup: int) -> set[str]:
        """What may be the id of its container, which is not under observation; of those that bear a
        name only who had it before."""
        if cgroup in self._former:
            return {self._former[cgroup]}
        return {one for one in candidates(self._index.path(cgroup) or "") if not bears_name(one)}

    def gone(self) -> set[int]:
        """Those that are gone now and were the last time, too."""
        missing = self._index.missing()
        gone = missing & self._missing
        self._missing = missing - gone
        return gone

    def forget(self, cgroup: int) -> None:
        """Nothing more is to come of it."""
        self._index.forget(cgroup)
        self._made.pop(cgroup, None)
        self._former.pop(cgroup, None)
        if owner := self._owners.pop(cgroup, None):
            self._tracked[owner].cgroups.discard(cgroup)

    def _named(self, cgroup: int, path: str) -> str | None:
        for candidate in candidates(path):
            if candidate in self._bearers:
                # What lies within is its own, too, and no other's.
                return self._maker(cgroup, candidate)
            if candidate in self._tracked:
                return candidate
        return None

    def _maker(self, cgroup: int, name: str) -> str | None:
        """Whose of those that bear a name a cgroup is, by the time at which it was made. None: it
        was made after the runtime was asked last, or it is not sure."""
        first_us, last_us = self._made.get(cgroup, (0, self._there_before_us))
        made = {one: self._tracked[one].made(first_us, last_us) for one in self._bearers[name]}
        makers = [one for one, whether in made.items() if whether is not False]
        if len(makers) == 1 and made[makers[0]]:
            return makers[0]
        self._unsure.add(name)
        return None

    def _adopt(self, cgroup: int, path: str, owner: str) -> None:
        tracked = self._tracked[owner]
        life = self._life(cgroup, path, name_of(owner))
        if life is not None:
            if tracked.life not in (None, life):
                self._restarted(tracked)
            tracked.life = life
        self._owners[cgroup] = owner
        tracked.cgroups.add(cgroup)

    def _life(self, cgroup: int, path: str, name: str) -> int | None:
        """The container's own cgroup, which it has anew each time that it is started, and in which
        this one is; None when that one is not known. What it makes within it comes and goes."""
        own = outermost(path, name)
        return cgroup if own == path else self._index.above(cgroup, own)
