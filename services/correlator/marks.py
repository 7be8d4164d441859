"""The marks of unreadable records of a worker's partitions, and their entries in the table.

Table evidence, ``u|<scope>|`` -> the marks of a scope, which is a digest or, for records that name
no image known then, ``#<partition>``. A table on disk takes an entry only from the agent of its
partition, so a mark is written by the agent that met the record, and lifted by the one that meets
it again: both are on the partition of the record.
"""

import json
from typing import Any

from services.common import metrics
from vexstream.identity import Digest
from vexstream.unreadable import ALL_READ, Dismissal, Mark, Marks, RecordPlace, Unread

PREFIX = b"u|"


class MarkTable:
    """All marks of a worker, by scope."""

    def __init__(self, table: Any) -> None:
        """``table`` is the table evidence."""
        self._table = table
        self._scopes: dict[str, Marks] = {}

    def clear(self) -> None:
        """Forgets what is in memory."""
        self._scopes = {}

    def restore(self, key: bytes, value: bytes) -> None:
        """Puts back what an entry holds."""
        self._scopes[scope_of(key)] = unpack(value)
        self._count()

    def unread(self, digest: Digest, partition: int) -> Unread:
        """What of the evidence of an image could not be read."""
        scopes = (self._scopes.get(digest), self._scopes.get(f"#{partition}"))
        found = [marks.of(digest) for marks in scopes if marks is not None]
        return found[0].joined(found[-1]) if found else ALL_READ

    def put(self, place: RecordPlace, digest: Digest | None, *, known: bool) -> bool:
        """A record could not be read; ``known`` says that there is a state of its image."""
        scope = digest if known and digest is not None else f"#{place.partition}"
        marks = self._scopes.setdefault(scope, Marks())
        return marks.put(place, digest) and self._write(scope, marks)

    def lift(self, place: RecordPlace) -> bool:
        """The record was read after all."""
        return any(
            [self._write(s, m) for s, m in list(self._scopes.items()) if m.lift(place)]  # noqa: C419
        )

    def dismiss(self, place: RecordPlace, dismissal: Dismissal, *, older: bool) -> bool:
        """A person says that the record, or all up to it, need not be read."""
        return any(
            [  # noqa: C419 - all of them, not the first
                self._write(scope, marks)
                for scope, marks in list(self._scopes.items())
                if marks.dismiss(place, dismissal, older=older)
            ]
        )

    def close(self, place: RecordPlace, *, write: bool) -> None:
        """Of what was on the partition up to this record, no part can be read any more. Without
        ``write`` it is not noted yet: outside an agent nothing can be."""
        own = f"#{place.partition}"
        self._scopes.setdefault(own, Marks())
        for scope, marks in list(self._scopes.items()):
            if scope == own or marks.marks(place.partition):
                marks.close(place)
                if write:
                    self._write(scope, marks)
        self._count()

    def _write(self, scope: str, marks: Marks) -> bool:
        key = PREFIX + scope.encode() + b"|"
        if marks.held or marks.beyond:
            self._table[key] = pack(marks)
        else:
            self._table.pop(key, None)
            del self._scopes[scope]
        self._count()
        return True

    def _count(self) -> None:
        metrics.UNREADABLE.set(
            sum(
                sum(mark.dismissal is None for mark in marks.held.values()) + len(marks.beyond)
                for marks in self._scopes.values()
            )
        )


def scope_of(key: bytes) -> str:
    """The scope of an entry's key."""
    return key.split(b"|", 2)[1].decode()


def pack(marks: Marks) -> bytes:
    """The value of an entry."""
    held = [
        [*place, mark.digest, mark.dismissal and [mark.dismissal.author, mark.dismissal.reason]]
        for place, mark in marks.held.items()
    ]
    # An older release reads one of them only.
    beyond, *others = marks.beyond or (None,)
    return json.dumps({"held": held, "beyond": beyond, "beyond_too": others}).encode()


def unpack(value: bytes) -> Marks:
    """The inverse of ``pack``."""
    read = json.loads(value)
    held = {
        RecordPlace(*place): Mark(digest, said and Dismissal(*said))
        for *place, digest, said in read["held"]
    }
    beyond = [read["beyond"], *read.get("beyond_too", ())] if read["beyond"] else []
    return Marks(held, tuple(RecordPlace(*place) for place in beyond))
