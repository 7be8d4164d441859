"""What identifies an image and a workload: digests and the names that go with them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NewType, TypeVar

Digest = NewType("Digest", str)
"""``sha256:`` and 64 lower-case hex digits (OCI image spec, descriptor.md, "Digests")."""

NO_IMAGE = Digest("sha256:" + "0" * 64)
"""In the place of a config digest that nobody knows (vexstream/nameless.py)."""

MAX_ALIASES_BYTES = 200_000
"""Of the digests, and of the names, by which an image is known: each build of the same image may
bring new ones, and what is written down of an image has to fit a record."""
MAX_ALIAS = 512
"""Characters of one: a name of Docker's has 384 at the most."""

_CLUSTER_ID = re.compile(r"\A([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=/|\Z)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class BadDigestError(ValueError):
    """The text is no digest."""


def parse_digest(text: str) -> Digest:
    """Checks a digest.

    Raises:
        BadDigestError: the text is not ``sha256:`` and 64 lower-case hex digits.
    """
    if not _DIGEST.match(text):
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise BadDigestError(
            f"{shown!r} is no digest: expected sha256: and 64 lower-case hex digits"
        )
    return Digest(text)


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its config digest, with every other digest and name it is known under.

    A container runtime knows the config digest for sure; manifest and index digests are aliases.
    Both tuples are sorted and without duplicates.
    """

    config_digest: Digest
    manifest_digests: tuple[Digest, ...] = ()
    names: tuple[str, ...] = ()
    layers: Digest | None = field(default=None, repr=False)
    """On which ones its container stands (vexstream/layers.py), where that is known and nobody can
    name it, or another image with the same layers may be meant."""
    other_than: Digest | None = field(default=None, repr=False)
    """Of one that nobody can name: it is none with this config digest, under which its container is
    told by itself."""

    def merged(self, other: "Image") -> "Image":
        """The same image with the aliases of both."""
        if self.config_digest != other.config_digest:
            raise ValueError("aliases of two different images cannot be merged")
        if self == other:
            return self
        return Image(
            self.config_digest,
            first_aliases((*self.manifest_digests, *other.manifest_digests)),
            first_aliases((*self.names, *other.names)),
            self.layers or other.layers,
            self.other_than or other.other_than,
        )

    @property
    def has_more(self) -> bool:
        """It may be known by more than is held."""
        return any(map(_is_full, (self.manifest_digests, self.names)))


_LONGEST = 12 * MAX_ALIAS + 4
Text = TypeVar("Text", bound=str)


def first_aliases(aliases: Iterable[Text]) -> tuple[Text, ...]:
    """Sorted, each once, and no more than fit: the first ones, so that there is ``has_more`` in
    whatever order they become known."""
    held = sorted(set(aliases))
    if not _is_full(held):
        return tuple(held)
    taken = accumulate(map(_room, held))
    return tuple(
        one for one, so_far in zip(held, taken, strict=True) if so_far <= MAX_ALIASES_BYTES
    )


def _is_full(aliases: Sequence[str]) -> bool:
    """There may be no room for one more."""
    some = len(aliases) * _LONGEST > MAX_ALIASES_BYTES - _LONGEST
    return some and sum(map(_room, aliases)) > MAX_ALIASES_BYTES - _LONGEST


def _room(alias: str) -> int:
    """The most that it takes, as JSON has it."""
    plain = alias.isascii() and alias.isprintable() and not {*'"\\'} & {*alias}
    return (1 if plain else 12) * len(alias) + 4


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """Who runs a container. ``namespace`` has the cluster before it where that is known
    (``east/shop``), and outside Kubernetes is empty but for that."""

    namespace: str
    name: str
    container: str

    def __str__(self) -> str:
        """For people: of a cluster's id, which is a UUID, the first part."""
        namespace = _CLUSTER_ID.sub(r"\1", self.namespace)
        owner = f"{namespace}/{self.name}" if namespace else self.name
        return owner if self.container in ("", self.name) else f"{owner}/{self.container}"

    @property
    def bare_namespace(self) -> str:
        """The namespace without the cluster."""
        return self.namespace.rpartition("/")[2]

    def surer(self, other: "Workload") -> "Workload":
        """Of two names of one container's workload that which says more, so the one with the
        cluster; of others the first by name, in whatever order they come."""

        def order(workload: Workload) -> tuple[int, Workload]:
            namespace = workload.namespace
            return -(bool(namespace) + namespace.count("/")), workload

        return min(self, other, key=order)
