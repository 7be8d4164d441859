"""Which image a container of containerd runs.

A container's record has the name of its image, which may be another one's by now or nobody's. Its
snapshot has the layers on which it stands, and so does every image that is in the store: what runs
is the image that has these layers. Of several with the same ones the store may have forgotten the
one that runs, unless the name is known to have been this one's since before the container was made.
"""

import re
from collections import OrderedDict
from dataclasses import replace
from typing import Any, TypeVar

from services.collector.containerd_api import ContainerdApi, Found, microseconds, the_one
from services.collector.runtime import image_of, nameless
from vexstream.identity import BadDigestError, Digest, Image, parse_digest

_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")
_MAX_REMEMBERED = 1000

_Key = TypeVar("_Key")
_Record = tuple[str, str, int]
"""Name and digest of an image in the store, and when they were put together."""


class ContainerdImages:
    """Those of one containerd, and those that ran in it before they were removed."""

    def __init__(self, api: ContainerdApi) -> None:
        self._api = api
        self._seen: OrderedDict[tuple[str, str], Image] = OrderedDict()
        """Layers and config digest of images that ran -> the image, also after its removal."""
        self._sure: OrderedDict[tuple[str, str, int], Image] = OrderedDict()
        """Namespaces, containers and when they were made -> what they surely run."""
        self._stored: dict[str, dict[_Record, list[tuple[str, Image]]]] = {}
        """Namespace -> what the records of its images were found to be when they were listed."""

    async def of(self, namespace: str, container: Any) -> Image:
        """The image of a container by its record; nameless where it may be one of several, with
        its layers where it may be one that the store has forgotten."""
        layers = await self._layers(namespace, container)
        created_us = microseconds(container.created_at)
        image, sure = await self._by_name(namespace, container.image, layers, created_us)
        one = (namespace, container.id, created_us)
        if image is not None and sure:
            _remember(self._sure, one, image)
        elif one in self._sure:
            return self._sure[one]
        if image is None and layers:
            image = await self._by_layers(namespace, layers)
        if image is None:
            return replace(nameless([container.image]), layers=_chain_id(layers))
        _remember(self._seen, (layers, image.config_digest), image)
        return image if sure else replace(image, layers=_chain_id(layers))

    async def named(self, namespace: str, asked: Image, created_us: int) -> Image:
        """The image of a container that was made then, by the name that it was made with; that name
        alone where another one may have it by now."""
        for name in asked.names:
            found, _ = await self._by_name(namespace, name, "", created_us)
            if found is not None:
                return found
        return asked

    async def _layers(self, namespace: str, container: Any) -> str:
        """On which layers it stands; empty when nobody says."""
        found = await self._api.call(
            "snapshots.v1.Snapshots/Stat", "SnapshotKey", "SnapshotOne", namespace,
            snapshotter=container.snapshotter, key=container.snapshot_key,
        )  # fmt: skip
        parent = found.info.parent if found is not None else ""
        return parent if _HEX_ID.match(parent.removeprefix("sha256:")) else ""

    async def _by_name(
        self, namespace: str, name: str, layers: str, created_us: int
    ) -> tuple[Image | None, bool]:
        """The image that bears the name, if the container may run it; and whether it surely does,
        for that was its name when the container was made."""
        answer = await self._api.call(
            "images.v1.Images/Get", "Named", "ImageOne", namespace, name=name
        )
        if answer is None:
            return None, False
        then = microseconds(answer.image.updated_at) <= created_us
        found = await self._api.images(namespace, answer.image.target.digest)
        chains = {one.config: await self._api.chain(namespace, one.config) for one in found}
        if layers and any(chains.values()):
            found = [one for one in found if chains[one.config] == layers]
        elif not then:
            found = []
        one = the_one(found)
        return None if one is None else _called(one, [name]), then

    async def _by_layers(self, namespace: str, layers: str) -> Image | None:
        """The only image with these layers: of those in the store, else of those that ran."""
        alike: dict[str, Image] = {}
        for of, image in await self._in_store(namespace):
            if of == layers:
                known = alike.get(image.config_digest, image)
                alike[image.config_digest] = known.merged(image)
        if not alike:
            alike = {config: image for (of, config), image in self._seen.items() if of == layers}
        return next(iter(alike.values())) if len(alike) == 1 else None

    async def _in_store(self, namespace: str) -> list[tuple[str, Image]]:
        """The images that are there, with their layers. What a record refers to stays, so that it
        is read once, unless a part of it was not there."""
        answer = await self._api.call("images.v1.Images/List", "Filters", "Images", namespace)
        before, now = self._stored.get(namespace, {}), {}
        images = []
        for record in answer.images:
            key = (record.name, record.target.digest, microseconds(record.updated_at))
            found, whole = before.get(key), True
            if found is None:
                found, whole = await self._read(namespace, record)
            images += found
            if whole:
                now[key] = found
        self._stored[namespace] = now
        return images

    async def _read(self, namespace: str, record: Any) -> tuple[list[tuple[str, Image]], bool]:
        """The images of a record, with their layers, and whether these are told of all."""
        found = await self._api.images(namespace, record.target.digest)
        chains = [(one, await self._api.chain(namespace, one.config)) for one in found]
        named = [(chain, _called(one, [record.name])) for one, chain in chains if chain]
        images = [(chain, image) for chain, image in named if image is not None]
        return images, bool(found) and all(chain for _, chain in chains)


def _remember(known: OrderedDict[_Key, Image], key: _Key, image: Image) -> None:
    """Keeps the newest ones."""
    known[key] = image
    known.move_to_end(key)
    if len(known) > _MAX_REMEMBERED:
        known.popitem(last=False)


def _chain_id(layers: str) -> Digest | None:
    try:
        return parse_digest(layers)
    except BadDigestError:
        return None


def _called(found: Found, names: list[str]) -> Image | None:
    references = [f"{name}@{digest}" for name in names for digest in found.digests]
    return image_of(found.config, references, names)
