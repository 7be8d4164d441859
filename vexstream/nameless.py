"""Containers of an image that nobody can name: which images may it be?

A runtime may have lost the record of an image that still runs. The collector tells such a container
under ``NO_IMAGE``, with the names and digests by which its image was asked for, on every partition:
what it uses is then unknown of each image that it may be, and the container counts there as one
of which something was lost. These are

- where it is known on which layers the container stands, and which ones the image has: those that
  have just these (vexstream/layers.py), whatever they are called. Before an image is scanned
  nothing is ruled out of it, so it can wait;
- else those that are known by one of its manifest digests or names, however Docker spells them, and
  those that have more of these than are held;
- where it bears neither, those of which a container that is no younger than ``AFTERWARDS_US`` after
  its end ran on its node: these may have lain there while it ran.

Of one of which it is known what it most likely runs that image is told under its own digest, and so
is none of these (``Image.other_than``).

Which image it was may be seen only when it is gone. What a *named* container lost keeps its
workload open for that image until another of its containers was seen whole, however long ago it
ended. The same has to hold here: so each container is remembered, without a limit of time, and told
to every image that is known later, or by more. Then it does not matter what comes first.

That takes no longer for their number: an image is told again of all when it is known by more than
before, and one of them is told to the images that are known by what it bears (``Images``).

They are bounded by their number: ``MAX_REMEMBERED`` a partition. One for which there is no room is
to be treated as a record that nobody could read (vexstream/unreadable.py).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from vexstream.evidence import Batch, Evidence
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.observation import Container

REASON = "image_unknown"
"""The loss that such a container has in every interval."""
AFTERWARDS_US = 86_400_000_000
"""An image that comes to a node later was not there before: its record had been lost, so it would
have had to be fetched anew."""
MAX_REMEMBERED = 4000

_DOCKER_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_OFFICIAL = "library/"

_Node = tuple[str, str]
"""A node and its cluster: nodes of one name are in several. Where a namespace may be the cluster, a
container is on the nodes of both."""


def is_nameless(image: Image) -> bool:
    """Nobody knows its config digest."""
    return image.config_digest == NO_IMAGE


@dataclass(frozen=True, slots=True)
class Read:
    """What the scan of an image has read: one may ask for an image by its manifest, and others by
    an index."""

    is_there: bool = False
    manifests: tuple[Digest, ...] = ()
    layers: Digest | None = None


UNREAD = Read()


@dataclass(frozen=True, slots=True)
class Nameless:
    """Such a container: that it ran, and not what it used, for files of the same name in another
    image are others."""

    identifier: str
    """As of ``Batch.container``."""
    asked: Image
    container: Container


def nameless_in(batch: Batch) -> Nameless:
    """What a batch says of one."""
    container = Container(batch.node, batch.workload, batch.started_at_us, batch.learning_period_us)
    container.observe(
        batch.observed_from_us, batch.observed_to_us, max(batch.lost, 1),
        {*batch.loss_reasons, REASON},
    )  # fmt: skip
    if batch.exit_code is not None:
        container.end(batch.observed_to_us, batch.exit_code)
    return Nameless(batch.container, batch.image, container)


def may_be(told: Nameless, evidence: Evidence, read: Read = UNREAD) -> bool:
    """Whether it may run the image."""
    bears = _bears(told, evidence.image, read)
    return _was_beside(told, _first_on(evidence)) if bears is None else bears


def _bears(told: Nameless, image: Image, read: Read) -> bool | None:
    """Whether it bears something of the image; None where it bears nothing."""
    if told.asked.other_than == image.config_digest:
        return False
    if told.asked.layers is not None and (read.layers is not None or not read.is_there):
        return told.asked.layers == read.layers
    asked = set(_aliases(told.asked))
    if asked and image.has_more:
        return True
    return not asked.isdisjoint({*_aliases(image), *read.manifests}) if asked else None


def _was_beside(told: Nameless, first_us: Mapping[_Node, int]) -> bool:
    until_us = (told.container.last_seen_us or 0) + AFTERWARDS_US
    return any(first_us.get(node, until_us + 1) <= until_us for node in _nodes(told.container))


def _first_on(evidence: Evidence) -> dict[_Node, int]:
    """When the first container of an image was made, on each node."""
    first_us: dict[_Node, int] = {}
    for container in evidence.containers.values():
        _note_first(first_us, container)
    return first_us


def _note_first(first_us: dict[_Node, int], container: Container) -> bool:
    earlier = [
        node
        for node in _nodes(container)
        if container.started_at_us < first_us.get(node, container.started_at_us + 1)
    ]
    first_us.update(dict.fromkeys(earlier, container.started_at_us))
    return bool(earlier)


class Remembered:
    """The nameless containers that a partition was told of. What is held follows from the batches,
    in whatever order and however often they come, as long as there is room."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Image], Nameless] = {}
        self._by_alias: defaultdict[str | None, list[Nameless]] = defaultdict(list)
        """By what their image was asked for, and by their layers."""
        self._by_node: defaultdict[_Node, dict[str, Nameless]] = defaultdict(dict)
        """Those that bear neither a name nor a digest."""

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Nameless]:
        return iter(self._known.values())

    def add(self, told: Nameless) -> Nameless | None:
        """The same with all that is known of it; None where there is no room for it."""
        known = self._known.get((told.identifier, told.asked))
        if known is None and len(self._known) >= MAX_REMEMBERED:
            return None
        if known is None:
            known = self._known[told.identifier, told.asked] = told
            for alias in (*_aliases(told.asked), told.asked.layers):
                self._by_alias[alias].append(told)
        else:
            known.container.add_losses(told.container)
        if not _aliases(known.asked):
            for node in _nodes(known.container):
                self._by_node[node][known.identifier] = known
        return known

    def that_may_be(self, evidence: Evidence, read: Read = UNREAD) -> list[Nameless]:
        """Those that may run the image."""
        aliases = {*_aliases(evidence.image), *read.manifests, read.layers} - {None}
        found = [told for alias in aliases for told in self._by_alias.get(alias, ())]
        if evidence.image.has_more:
            found = [told for told in self if _aliases(told.asked)]
        found = [told for told in found if _bears(told, evidence.image, read)]
        return found + (self._beside(evidence, read) if self._by_node else [])

    def _beside(self, evidence: Evidence, read: Read) -> list[Nameless]:
        first_us = _first_on(evidence)
        here: dict[str, Nameless] = {}
        for node in first_us:
            here |= self._by_node.get(node, {})
        bears = ((told, _bears(told, evidence.image, read)) for told in here.values())
        return [
            told
            for told, whether in bears
            if (_was_beside(told, first_us) if whether is None else whether)
        ]


class Images:
    """What is known of the images of a worker that tells which nameless containers they may be."""

    def __init__(self) -> None:
        self._known: dict[Digest, _Known] = {}
        self._by: defaultdict[Hashable, set[Digest]] = defaultdict(set)
        """By names, digests, layers and nodes; True are those with more names than are held."""

    def learn(self, digest: Digest, image: Image, read: Read, container: Container | None) -> bool:
        """Takes note of what is known of an image, and of one of its containers; says whether it
        may be more of those that nobody can name than before."""
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = _Known()
        news = (known.image, known.read) != (image, read)
        if news:
            known.image, known.read = image, read
            for by in {*_aliases(image), *read.manifests, read.layers, image.has_more}:
                self._by[by].add(digest)
        if container is not None and _note_first(known.first_us, container):
            news = True
            for node in _nodes(container):
                self._by[node].add(digest)
        return news

    def perhaps(self, told: Nameless) -> Set[Digest]:
        """Those that a container may run, and more: ``may_be`` decides."""
        by: list[Hashable] = [True, told.asked.layers, *_aliases(told.asked)]
        if not _aliases(told.asked):
            by += _nodes(told.container)
        return set[Digest]().union(*(self._by.get(one, ()) for one in by if one is not None))


@dataclass(slots=True)
class _Known:
    image: Image | None = None
    read: Read | None = None
    first_us: dict[_Node, int] = field(default_factory=dict)


def tell(evidence: Evidence, remembered: Remembered, read: Read = UNREAD) -> list[Nameless]:
    """Tells an image of all that it may be; those by which its evidence has changed. Until nothing
    is new: by one that it may be, it may have been on one more node."""
    new: list[Nameless] = []
    while more := [
        told
        for told in (remembered.that_may_be(evidence, read) if len(remembered) else ())
        if evidence.add_losses(told.identifier, told.container)
    ]:
        new += more
    return new


def _nodes(container: Container) -> tuple[_Node, ...]:
    namespace = container.workload.namespace
    cluster, _, _ = namespace.rpartition("/")
    clusters = (cluster,) if cluster or not namespace else ("", namespace)
    return tuple((container.node, one) for one in clusters)


def _aliases(image: Image) -> tuple[str, ...]:
    return (*image.manifest_digests, *map(_spelled, image.names))


def _spelled(name: str) -> str:
    """As Docker shows a name: ``docker.io/library/redis`` is ``redis:latest``."""
    for hub in _DOCKER_HUB:
        if name.startswith(hub):
            name = name.removeprefix(hub).removeprefix(_OFFICIAL)
            break
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
