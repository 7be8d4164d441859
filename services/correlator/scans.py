"""Scans in the tables: the chunks of the one that holds, and of those on their way (assembly.py).

Table scans has the chunks, and which scan holds; what else is known of scans is in table evidence
(store.py).
"""

import json
from collections.abc import Callable
from typing import Any

import structlog

from schemas.codec import BadRecordError, CodecError
from schemas.scans import ScanChunk, decode_chunk, encode_chunk, join_scan
from services.common import metrics
from services.correlator import store
from services.correlator.assembly import MAX_IN_PARTS, ScanAssembly, supersedes
from services.correlator.store import Held
from vexstream.correlation import Correlation
from vexstream.identity import Digest
from vexstream.scan import Scan

log = structlog.get_logger()


class ScanTables:
    """The scans of a worker's digests."""

    def __init__(self, scans: Any, evidence: Any) -> None:
        """Tables of bytes."""
        self._scans = scans
        self._evidence = evidence
        self._assembly = ScanAssembly()

    def take(self, correlation: Correlation, held: Held, chunk: ScanChunk) -> bool:
        """Takes a part of a scan; says whether what is known of scans has changed by it.

        Raises:
            CodecError: what is whole now is no scan.
        """
        digest = correlation.digest
        if chunk.scan_id == held.scan_id:
            self._go_beside(digest, held)
            return self._note_read_again(digest, held)
        if chunk.scan_id in held.past:
            return False
        parts = self._assembly.add(chunk)
        if not parts.whole:
            self._scans[store.chunk_name(digest, chunk.scan_id, chunk.index)] = encode_chunk(chunk)
            return self._drop_one_too_many(digest, held)
        taken = self._assembly.forget(digest, chunk.scan_id)
        outdated = {store.chunk_name(digest, chunk.scan_id, index) for index in taken}
        try:
            scan = self._joined(chunk, taken)
            holds = _is_to_hold(correlation, held, scan, chunk.scan_id)
        except CodecError:
            store.delete(self._scans, outdated)
            raise
        if not holds or not correlation.accept(scan):
            store.delete(self._scans, outdated)
            self._note_others(digest, held, chunk.scan_id)
            return False
        self._scans[store.chunk_name(digest, chunk.scan_id, chunk.index)] = encode_chunk(chunk)
        outdated -= set(store.chunk_keys(digest, chunk.scan_id, parts.count))
        outdated.update(store.chunk_keys(digest, held.scan_id, held.chunks))
        before, held.scan_id, held.chunks = held.scan_id, chunk.scan_id, parts.count
        held.beside = self._assembly.under_way(digest)
        held.dropped &= parts.begun <= held.dropped_at
        self._note_read(digest, held, scan)
        pointer = json.dumps([held.scan_id, held.chunks]).encode()
        self._scans[store.pointer_key(digest)] = pointer
        self._note_others(digest, held, before)
        store.delete(self._scans, outdated)
        return True

    def holding(self, digest: Digest, held: Held) -> Scan | None:
        """The scan that holds.

        Raises:
            EntryGoneError: a part of it is not there any more.
        """
        keys = store.chunk_keys(digest, held.scan_id, held.chunks)
        return join_scan([decode_chunk(store.required(self._scans, key)) for key in keys])

    def rebuild(
        self, owned: Callable[[Digest], bool], held_of: Callable[[Digest], Held]
    ) -> list[Digest]:
        """Everything anew out of the tables; the digests of which a scan holds."""
        self._assembly = ScanAssembly()
        scanned, in_transit = [], []
        for key, value in self._scans.items():
            digest = Digest(key.split(b"#", 1)[0].decode())
            if not owned(digest):
                continue
            if key.endswith(b"#"):
                held = held_of(digest)
                held.scan_id, held.chunks = json.loads(value)
                scanned.append(digest)
            else:
                in_transit.append((digest, key))
        for digest, key in in_transit:
            if key.split(b"#")[1].decode() != held_of(digest).scan_id:
                chunk = decode_chunk(self._scans[key])
                self._assembly.restore(digest, chunk.scan_id, chunk.index, chunk.count)
        return scanned

    def _joined(self, last: ScanChunk, indices: list[int]) -> Scan:
        """The scan of which all chunks have come; the last one is not in the table yet."""
        chunks = [last]
        for index in indices:
            if index != last.index:
                key = store.chunk_name(last.config_digest, last.scan_id, index)
                chunks.append(decode_chunk(store.required(self._scans, key)))
        scan = join_scan(chunks)
        if scan is None:
            raise BadRecordError(f"the chunks of the scan {last.scan_id[:80]} do not fit together")
        return scan

    def _go_beside(self, digest: Digest, held: Held) -> None:
        """A chunk of the scan that holds has come again, after the first ones of these."""
        if not self._assembly.under_way(digest) <= held.beside:
            held.beside |= self._assembly.under_way(digest)
            self._note_others(digest, held)

    def _drop_one_too_many(self, digest: Digest, held: Held) -> bool:
        scan_id = self._assembly.too_many(digest)
        if scan_id is None:
            return False
        held.dropped, held.dropped_at = True, self._assembly.begun(digest)
        self._note_others(digest, held)
        taken = self._assembly.forget(digest, scan_id)
        store.delete(self._scans, [store.chunk_name(digest, scan_id, index) for index in taken])
        metrics.DROPPED_SCANS.inc()
        log.warning("too many scans of an image at once: one was dropped", digest=digest)
        return True

    def _note_others(self, digest: Digest, held: Held, past: str = "") -> None:
        """Writes down what is known of scans that do not hold; ``past`` is one that was whole."""
        if past:
            held.past = [*held.past, past][-MAX_IN_PARTS:]
        key, value = store.others_key(digest), store.others_bytes(held)
        if value is not None:
            self._evidence[key] = value
        elif held.noted:
            self._evidence.pop(key, None)
        held.noted = value is not None

    def _note_read(self, digest: Digest, held: Held, scan: Scan) -> bool:
        entries = store.read_entries(digest, held, scan)
        for key, value in entries.items():
            self._evidence[key] = value
        return bool(entries)

    def _note_read_again(self, digest: Digest, held: Held) -> bool:
        """A crash may have come between the entry of a scan and those of what it has read."""
        scan = None if held.manifests and held.layers else self.holding(digest, held)
        return scan is not None and self._note_read(digest, held, scan)


def _is_to_hold(correlation: Correlation, held: Held, scan: Scan, scan_id: str) -> bool:
    at_once = scan_id in held.beside
    return supersedes(scan, scan_id, correlation.scan, held.scan_id, at_once=at_once)
