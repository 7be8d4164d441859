"""A container under observation, with the images that are mounted into it: what there is to tell of
it, and from when on.

Silence is evidence only of a container that can be heard. So nothing is said of one before a
program was seen to start in it (uses.py), and one that runs without is told as a loss: a runtime
with a kernel of its own (gVisor, Kata) may run it. Of one whose image nobody can name it is told
that it runs, to all images that it may be (vexstream/nameless.py); so it is to all but the named
one where the image is most likely that, and may be another one with the same layers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.runtime import ImageVolume
from vexstream.batching import Observation
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Digest, Image, Workload
from vexstream.nameless import REASON, is_nameless

_START_US = 30_000_000
"""How long a runtime's word that a container runs may precede the sight of it."""
_UNEXPLAINED_US = 10_000_000
"""How long a runtime may take to tell how a container ended that it lists no more."""
_NAMELESS_US = 60_000_000
"""How often it is told of a container that its image is unknown: every image hears of it."""


@dataclass(frozen=True, slots=True)
class Past:
    """What is kept of one of which all was told, for it may be there again."""

    created_at_us: int
    told_until_us: int
    heard: bool
    life: int | None
    root: FileSystemRoot | None


@dataclass(slots=True)
class Tracked:
    """What the tracker knows of one container."""

    observation: Observation
    created_at_us: int
    listed_until_us: int
    """Of one that bears a name: when the runtime was last asked and listed it."""
    heard: bool
    """A program was seen to start in it, or it is too old for that."""
    started: bool = False
    silent_from_us: int | None = None
    """When it will have been silent for too long."""
    root: FileSystemRoot | None = None
    directory: bytes = b""
    """Where on a file system that is not its alone its root is, once that is known."""
    cgroups: set[int] = field(default_factory=set)
    life: int | None = None
    """Its own cgroup since it was started last."""
    missed_at_us: int | None = None
    """When it was known first that it has ended, as long as nobody told how."""
    ended_at_us: int | None = None
    exit_code: int | None = None
    native: bool = False
    """Surely a process of the node's own kernel."""
    doubt: Observation | None = None
    """What is told to the other images that it may be."""
    copied: bool = False
    """A tmpfs has a copy of some of its code."""
    volumes: dict[str, dict[Digest, Observation]] = field(default_factory=dict)
    """Images that are mounted into it, or may be, by their path there."""
    unplaced: set[str] = field(default_factory=set)
    """Those of which it is not known yet on which device they are."""
    devices: dict[int, list[Observation]] = field(default_factory=dict)
    """Those that are file systems of their own."""
    elsewhere: list[FileEvent] = field(default_factory=list)
    """What it used on other file systems, as long as volumes are unplaced."""
    told: int = 0
    """How many of these have been told already, as what they are if they are on no such volume."""

    @property
    def is_over(self) -> bool:
        """Its last process is gone."""
        return self.ended_at_us is not None

    def past(self) -> Past:
        """It as it is, all being told."""
        told_until_us = self.observation.observed_from_us
        return Past(self.created_at_us, told_until_us, self.heard, self.life, self.root)

    def made(self, first_us: int, last_us: int) -> bool | None:
        """Whether it was there when something was made between these times, and may have made it;
        None: that is not known, or not yet."""
        until_us = self.listed_until_us
        if self.ended_at_us is not None and self.exit_code is not None:
            until_us = max(until_us, self.ended_at_us)
        if self.created_at_us > last_us or (self.is_over and until_us < first_us):
            return False
        return True if last_us <= until_us else None

    def clock_set_back(self, by_us: int) -> None:
        """It was there until then by the clock as it is now."""
        self.listed_until_us -= by_us
        if self.ended_at_us is not None:
            self.ended_at_us -= by_us

    def miss(self, now_us: int) -> None:
        """It has ended, and nobody told how, which may come yet."""
        if self.is_over:
            return
        if self.missed_at_us is None:
            self.missed_at_us = now_us
        if not 0 <= now_us - self.missed_at_us < _UNEXPLAINED_US:
            self.ended_at_us = self.missed_at_us

    def find(self) -> None:
        """It is there, also after its end: it was started again."""
        self.missed_at_us = self.ended_at_us = self.exit_code = None

    def mounted(self) -> list[Observation]:
        """All images that are, or may be, mounted into it."""
        return [image for images in self.volumes.values() for image in images.values()]

    def mount(self, volumes: Iterable[ImageVolume]) -> None:
        """Images are mounted into it; those that are known already stay."""
        observed = self.observation
        of = observed.workload
        for volume in volumes:
            images = self.volumes.setdefault(volume.path, {})
            if volume.image.config_digest in images:
                continue
            images[volume.image.config_digest] = replace(
                _beside(observed, volume.image),
                container_id=observed.container_id + volume.path,
                workload=Workload(of.namespace, of.name, f"{of.container}:{volume.path}"),
            )
            self.unplaced.add(volume.path)

    def identify(self, image: Image) -> None:
        """What the runtime says of its image. Where that may be another one with the same layers,
        silence is evidence of neither."""
        observation = self.observation
        observation.image = _named(image)
        if observation.image == image:
            return
        other = Image(NO_IMAGE, (), image.names, image.layers, other_than=image.config_digest)
        self.doubt = _beside(observation, other)
        if observation.observed_from_us <= observation.started_at_us:
            observation.lose(REASON, 1)

    def learn(self, image: Image) -> None:
        """More became known of its image; another one under the same name is not its own."""
        known = self.observation.image
        if image.config_digest == known.config_digest:
            self.observation.learn(_named(image))
        elif is_nameless(known):
            self.identify(image)
            self.observation.lose(REASON, 1)  # what it used before was not kept

    def wait_for_start(self, until_us: int) -> bool:
        """Whether nothing has run in it yet; its life begins later then. One that is over ran when
        something was lost or seen of it."""
        if self.heard or self.started or (self.is_over and self.observation.has_news):
            return False
        for observation in (self.observation, *self.mounted(), *filter(None, (self.doubt,))):
            observation.begin(until_us)
        return True

    def can_be_told(self, until_us: int) -> bool:
        """Whether there is anything to say of it now; counts what it cannot be heard of.

        Without a cgroup its events cannot be told, and without a start it has not been heard yet:
        silence would be no evidence then.
        """
        if self.silent_from_us is None:
            self.silent_from_us = until_us + _START_US
        if not self.heard and not self.is_over and until_us < self.silent_from_us:
            return False
        forgotten = self.is_over and self.life is not None
        if not self.cgroups and self.started and not forgotten:
            self.observation.lose("cgroup_unknown", 1)
        elif not self.heard:
            self.observation.lose("not_heard", 1)
        return True

    def cut(self, until_us: int) -> list[Batch]:
        """Ends its interval, and those of the images that are mounted into it or that it may be."""
        return self._cut(until_us) + self._cut_doubt(until_us) + self._cut_volumes(until_us)

    def _cut(self, until_us: int) -> list[Batch]:
        observation = self.observation
        if self.copied:
            observation.lose("tmpfs_copy", 1)
        if _rests(observation, until_us) and not self.is_over:
            return []
        if self.ended_at_us is None:
            return observation.cut(self._until(until_us))
        ended_at = self._until(until_us)
        known = self.exit_code is not None
        if known or observation.has_news or ended_at > observation.observed_from_us:
            return observation.cut(ended_at, self.exit_code)
        return []

    def _cut_doubt(self, until_us: int) -> list[Batch]:
        if self.doubt is None or (_rests(self.doubt, until_us) and not self.is_over):
            return []
        return self.doubt.cut(self._until(until_us), self.exit_code)

    def _cut_volumes(self, until_us: int) -> list[Batch]:
        batches: list[Batch] = []
        for observation in self.mounted():
            observation.lose("image_volume", 1)
            if not _rests(observation, until_us) or self.is_over:
                batches += observation.cut(self._until(until_us))
        return batches

    def _until(self, until_us: int) -> int:
        """No time is claimed in which it was gone."""
        return min(self.ended_at_us or self.missed_at_us or until_us, until_us)


def _named(image: Image) -> Image:
    """Without the doubt whether it is another one with the same layers."""
    return image if is_nameless(image) else replace(image, layers=None)


def _beside(observed: Observation, image: Image) -> Observation:
    """Another one of the same container, that begins with it."""
    return replace(
        observed, image=image, sequence=0, _pending={}, _pending_bytes=0, _lost=Counter()
    )


def _rests(observation: Observation, until_us: int) -> bool:
    """Its image is unknown, and that was said a moment ago. What it used is not told: files of the
    same name in another image are others."""
    if not is_nameless(observation.image):
        return False
    observation.drop()
    observation.lose(REASON, 1)
    begun = observation.sequence > 0
    return begun and until_us - observation.observed_from_us < _NAMELESS_US
