"""Documents in other formats than OpenVEX: made when first asked for, then served as stored."""

import asyncio
import hashlib
from importlib.metadata import version

import zstandard

from services.api import history, image_reads
from services.api.changes import compressed
from services.api.database import Database
from services.api.errors import DatabaseUnavailableError
from services.api.formats import RENDERERS, Format
from services.api.history import Rendering
from vexstream.identity import Digest, Image

_RENDERER = version("vexstream")


async def rendering(
    database: Database, turn: asyncio.Lock, config_digest: str, source_sha256: str, wanted: Format
) -> Rendering:
    """The newest document of an image in another format.

    Raises:
        DatabaseUnavailableError: Postgres cannot be used now, or the document has just changed.
    """
    key = (config_digest, wanted, source_sha256, _RENDERER)
    async with database.read() as read:
        made = await history.rendering(read, *key)
    if made is not None:
        return made
    # One at a time: it takes the memory of many documents, and who waits may want the same one.
    async with turn:
        return await _made(database, config_digest, source_sha256, wanted)


async def _made(
    database: Database, config_digest: str, source_sha256: str, wanted: Format
) -> Rendering:
    key = (config_digest, wanted, source_sha256, _RENDERER)
    async with database.read() as read:
        made = await history.rendering(read, *key)
        if made is not None:
            return made
        image = await image_reads.find_image(read, Digest(config_digest))
        stored = (
            None if image is None else await history.version(read, config_digest, image.version)
        )
    if image is None or stored is None or stored[0].sha256 != source_sha256:
        raise DatabaseUnavailableError("the document changed while it was being read: ask again")
    # It takes milliseconds to seconds, and other requests must not wait for it.
    made = await asyncio.to_thread(_render, stored[1], image.image, wanted)
    async with database.write() as write:
        await history.keep_rendering(write, config_digest, wanted, source_sha256, _RENDERER, made)
    return made


def _render(packed: bytes, image: Image, wanted: Format) -> Rendering:
    renderer = RENDERERS[wanted]
    body = renderer.render(zstandard.ZstdDecompressor().decompress(packed), image)
    digest = hashlib.sha256(body).hexdigest()
    return Rendering(renderer.media_type, digest, body, compressed(body))
