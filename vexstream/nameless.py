"""Containers of an image that nobody can name: which images may it be?

A runtime may have lost the record of an image that still runs. The collector tells such a container
under ``NO_IMAGE``, with the names and digests by which its image was asked for, on every partition:
what it uses is then unknown of each image that it may be, and the container counts there as one
of which something was lost. These are

- the images that are known by one of its manifest digests or names, however Docker spells them;
- where it bears neither, those that ran on its node.
"""

from collections.abc import Iterable
from dataclasses import replace

from vexstream.evidence import Batch, Evidence
from vexstream.identity import NO_IMAGE, Digest, Image

REASON = "image_unknown"
"""The loss that such a container has in every interval."""

_DOCKER_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_OFFICIAL = "library/"


def is_nameless(image: Image) -> bool:
    """Nobody knows its config digest."""
    return image.config_digest == NO_IMAGE


def told_alone(batch: Batch) -> Batch:
    """What is said of such a container: that it ran, and not what it used, for files of the same
    name in another image are others."""
    return replace(batch, accesses=(), parts=0)


def may_be(batch: Batch, evidence: Evidence, scanned: Iterable[Digest] = ()) -> bool:
    """Whether the nameless container of a batch may run this image; its scan found it under
    ``scanned``: one may ask for an image by its manifest, and others by an index."""
    asked, image = batch.image, evidence.image
    if not set(asked.manifest_digests).isdisjoint({*image.manifest_digests, *scanned}):
        return True
    if asked.names or asked.manifest_digests:
        return not _plain(asked).isdisjoint(_plain(image))
    here = (batch.node, _cluster(batch.workload.namespace))
    return any(
        (container.node, _cluster(container.workload.namespace)) == here
        for container in evidence.containers.values()
    )


def as_of(batch: Batch, image: Image) -> Batch:
    """The same, told of an image that it may be."""
    reasons = tuple(sorted({*batch.loss_reasons, REASON}))
    return replace(
        told_alone(batch), image=Image(image.config_digest), lost=max(batch.lost, 1),
        loss_reasons=reasons,
    )  # fmt: skip


def _cluster(namespace: str) -> str:
    return namespace.rpartition("/")[0]


def _plain(image: Image) -> set[str]:
    return {_spelled(name) for name in image.names}


def _spelled(name: str) -> str:
    """As Docker shows a name: ``docker.io/library/redis`` is ``redis:latest``."""
    for hub in _DOCKER_HUB:
        if name.startswith(hub):
            name = name.removeprefix(hub).removeprefix(_OFFICIAL)
            break
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
