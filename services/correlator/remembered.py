"""The nameless containers that a worker's partitions were told of, and their entries in the table.

Table evidence, ``n|<partition>|<seal>|<container>`` -> what is held of one (vexstream/nameless.py);
the seal is of what its image was asked by. Each is on every partition, and a table on disk takes an
entry only from the agent of its partition. An older release leaves them aside.
"""

import hashlib
from collections import defaultdict
from typing import Any

from services.common import metrics
from services.correlator import store
from vexstream.nameless import Nameless, Remembered

PREFIX = b"n|"


class NamelessTable:
    """Those of a worker, by partition."""

    def __init__(self, table: Any) -> None:
        """``table`` is the table evidence."""
        self._table = table
        self._partitions: defaultdict[int, Remembered] = defaultdict(Remembered)

    def clear(self) -> None:
        """Forgets what is in memory."""
        self._partitions.clear()

    def restore(self, key: bytes, value: bytes) -> None:
        """Puts back what an entry holds."""
        container, asked = store.container_of(value)
        identifier = key.split(b"|", 3)[3].decode()
        self.of(partition_of(key)).add(Nameless(identifier, asked, container))
        self._count()

    def of(self, partition: int) -> Remembered:
        """Those of a partition."""
        return self._partitions[partition]

    def take(self, partition: int, told: Nameless) -> Nameless | None:
        """The same with all that is known of it, which is written down; None where there is no
        room for it."""
        known = self.of(partition).add(told)
        if known is not None:
            key = f"n|{partition}|{_seal(known)}|{known.identifier}".encode()
            self._table[key] = store.container_bytes(known.container, known.asked)
            self._count()
        return known

    def newest_us(self) -> dict[int, int]:
        """Up to when those of each partition were heard of."""
        return {
            partition: max((told.container.last_seen_us or 0 for told in remembered), default=0)
            for partition, remembered in self._partitions.items()
        }

    def _count(self) -> None:
        metrics.REMEMBERED_NAMELESS.set(sum(map(len, self._partitions.values())))


def partition_of(key: bytes) -> int:
    """The partition of an entry's key."""
    return int(key.split(b"|", 2)[1])


def _seal(told: Nameless) -> str:
    asked: tuple[object, ...] = (told.asked, told.asked.layers)
    if told.asked.other_than is not None:  # entries of earlier releases have no such
        asked += (told.asked.other_than,)
    return hashlib.blake2b(repr(asked).encode(), digest_size=8).hexdigest()
