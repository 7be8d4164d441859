"""Documents in memory, by what they hold: one that changes has another key, so none is stale."""

from collections import OrderedDict

from services.api.image_reads import Body

Key = tuple[str, Body]
"""SHA-256 of the document, and its form."""


class Bodies:
    """As many as fit; the one asked for longest ago goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._held: OrderedDict[Key, bytes] = OrderedDict()

    def get(self, key: Key) -> bytes | None:
        """What is held under a key."""
        body = self._held.get(key)
        if body is not None:
            self._held.move_to_end(key)
        return body

    def put(self, key: Key, body: bytes) -> None:
        """Holds a body, unless it alone is too large."""
        if key in self._held or len(body) > self._most_bytes:
            return
        self._held[key] = body
        self._bytes += len(body)
        while self._bytes > self._most_bytes:
            _, gone = self._held.popitem(last=False)
            self._bytes -= len(gone)
