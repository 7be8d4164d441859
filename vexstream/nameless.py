"""Containers of an image that nobody can name: which images may it be?

A runtime may have lost the record of an image that still runs. The collector tells such a container
under ``NO_IMAGE``, with the names and digests by which its image was asked for, on every partition:
what it uses is then unknown of each image that it may be, and the container counts there as one
of which something was lost. These are

- where it is known on which layers the container stands, and which ones the image has: those that
  have just these (vexstream/layers.py), whatever they are called. Before an image is scanned
  nothing is ruled out of it, so it can wait;
- else those that are known by one of its manifest digests or names, however Docker spells them;
- where it bears neither, those of which a container that is no younger than ``AFTERWARDS_US`` after
  its end ran on its node: these may have lain there while it ran.

Which image it was may be seen only when it is gone. What a *named* container lost keeps its
workload open for that image until another of its containers was seen whole, however long ago it
ended. The same has to hold here: so each container is remembered, without a limit of time, and told
to every image that is known later, or by more. Then it does not matter what comes first.

They are bounded by their number: ``MAX_REMEMBERED`` a partition. One for which there is no room is
to be treated as a record that nobody could read (vexstream/unreadable.py).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

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
"""A node and its cluster: nodes of one name are in several."""


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
    if told.asked.layers is not None and (read.layers is not None or not read.is_there):
        return told.asked.layers == read.layers
    asked = set(_aliases(told.asked))
    if asked:
        return not asked.isdisjoint({*_aliases(evidence.image), *read.manifests})
    here, until_us = _node(told.container), (told.container.last_seen_us or 0) + AFTERWARDS_US
    return any(
        container.started_at_us <= until_us and _node(container) == here
        for container in evidence.containers.values()
    )


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
            self._by_node[_node(known.container)][known.identifier] = known
        return known

    def that_may_be(self, evidence: Evidence, read: Read = UNREAD) -> list[Nameless]:
        """Those that may run the image."""
        aliases = {*_aliases(evidence.image), *read.manifests, read.layers} - {None}
        found = [told for alias in aliases for told in self._by_alias.get(alias, ())]
        if self._by_node:
            nodes = {_node(container) for container in evidence.containers.values()}
            found += [told for node in nodes for told in self._by_node.get(node, {}).values()]
        return [told for told in found if may_be(told, evidence, read)]


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


def _node(container: Container) -> _Node:
    return container.node, container.workload.namespace.rpartition("/")[0]


def _aliases(image: Image) -> tuple[str, ...]:
    return (*image.manifest_digests, *map(_spelled, image.names))


def _spelled(name: str) -> str:
    """As Docker shows a name: ``docker.io/library/redis`` is ``redis:latest``."""
    for hub in _DOCKER_HUB:
        if name.startswith(hub):
            name = name.removeprefix(hub).removeprefix(_OFFICIAL)
            break
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
