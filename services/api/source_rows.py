"""SQL about rows that say of which record they are: documents and evidence.

A row is replaced only by a newer record: of the same partition one with a higher offset, of
another partition (a topic may be given more) one with a later timestamp. So records may come
twice, late, or all over again, and the rows stay what the newest records say.
"""

from sqlalchemy import ColumnElement, Update, and_, or_, update

from services.api.changes import Source
from services.api.tables import DocumentRow, EvidenceRow

_Row = type[DocumentRow] | type[EvidenceRow]
_DOUBTED = -1
"""Offset and timestamp of a row that the topic, which is gone through again, has yet to confirm."""


def older_than(row: _Row, source: Source) -> ColumnElement[bool]:
    """The row comes from an older record than this one."""
    return or_(
        and_(row.source_partition == source.partition, row.source_offset < source.offset),
        and_(
            row.source_partition != source.partition,
            row.source_timestamp_ms < source.timestamp_ms,
        ),
    )


def doubt(row: _Row) -> Update:
    """Marks all rows as older than any record."""
    return update(row).values(source_offset=_DOUBTED, source_timestamp_ms=_DOUBTED)


def is_doubted(row: _Row) -> ColumnElement[bool]:
    """No record has confirmed it since."""
    return row.source_offset == _DOUBTED
