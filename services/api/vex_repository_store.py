"""The SQL of the VEX repository: every image with its document."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from services.api.database import ReadConnection
from services.api.tables import DocumentRow
from vexstream.document import DocumentState
from vexstream.identity import Digest, Image
from vexstream.vex_repository import Entry


@dataclass(frozen=True, slots=True)
class Known:
    """An image and which document it has; ``sha256`` is empty when it has none."""

    image: Image
    sha256: str
    issued_at_us: int


async def images(connection: ReadConnection) -> list[Known]:
    """All images about which something may be said: those without findings have nothing open."""
    rows = await connection.execute(
        select(
            DocumentRow.config_digest,
            DocumentRow.manifest_digests,
            DocumentRow.names,
            DocumentRow.sha256,
            DocumentRow.issued_at_us,
        )
        .where(DocumentRow.state != DocumentState.NO_FINDINGS.value)
        .order_by(DocumentRow.config_digest)
    )
    return [
        Known(
            Image(Digest(config), tuple(map(Digest, manifests)), tuple(names)), sha256, issued_at_us
        )
        for config, manifests, names, sha256, issued_at_us in rows
    ]


async def entries(connection: ReadConnection, wanted: Collection[Known]) -> list[Entry]:
    """The documents of these images, as they are now."""
    by_digest = {known.image.config_digest: known.image for known in wanted}
    rows = await connection.execute(
        select(DocumentRow.config_digest, DocumentRow.body).where(
            DocumentRow.config_digest.in_(by_digest)
        )
    )
    return [Entry(by_digest[Digest(config)], body) for config, body in rows]
