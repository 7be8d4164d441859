"""Records that cannot be used: each becomes a dead letter. What was used in a file access is then
unknown, and marked so, until the record is read after all or a person dismisses it.
"""

from collections.abc import Callable
from typing import Any

import structlog

from services.common.kafka import DeadLetterBox
from services.common.origin import dismissed_by, origin_of, topic_of
from services.correlator.beginnings import NO_ID, Anew, BegunAnewError
from services.correlator.continuity import Place, RecordsGoneError
from services.correlator.partitions import Partitions, StandInError, TooLargeError
from services.correlator.state import State
from vexstream.identity import NO_IMAGE, BadDigestError, Digest, parse_digest
from vexstream.unreadable import RecordPlace

log = structlog.get_logger()


class Burials:
    """Those of one worker; ``file_access`` is the name of the topic whose records are marked."""

    def __init__(
        self,
        file_access: str,
        state: State,
        dead: DeadLetterBox,
        partitions: Partitions,
        changed: Callable[[Digest], None],
    ) -> None:
        """``changed`` is called with every digest of which more or less is unknown than before."""
        self._file_access = file_access
        self._state = state
        self._dead = dead
        self._partitions = partitions
        self._changed = changed

    async def bury(self, message: Any, error: Exception) -> None:
        """As a dead letter; what was used in a file access is unknown from now on.

        Raises:
            NotPassedOnError: it belongs on another partition, and is not there.
        """
        topic_id = self._topic_id(message)
        digest = _digest_in(message.key) if message.topic == self._file_access else None
        if digest is not None and self._partitions.of(digest) != message.partition:
            try:
                if not isinstance(error, TooLargeError):
                    await self._partitions.pass_on(message, digest)
                    return
            except TooLargeError as too_large:
                error = too_large
        if isinstance(error, TooLargeError):  # its image is marked where it belongs
            await self._dead.bury(message, error, topic_id=topic_id)
            return
        # A record that was sent again and is still of no use goes by its first place.
        place = self._origin(message) or RecordPlace(
            message.topic, message.partition, message.offset
        )
        if message.topic == self._file_access:
            self._mark(place, digest)
        if isinstance(error, StandInError):
            await self._report(place, error)
            return
        await self._dead.bury(message, error, place=place, topic_id=topic_id)

    async def give_up(self, place: Place, error: RecordsGoneError) -> None:
        """Of records that are not there any more there is only a report."""
        last = RecordPlace(*place, error.offsets[-1])
        if last.topic == self._file_access:
            self._mark(last, None)
        await self._report(last, error)

    async def begin_anew(self, anew: Anew) -> None:
        """The same of all that may have been on a partition before it began anew."""
        self.close(anew, write=True)
        error = BegunAnewError(f"what came after this record may not have been read: {anew.why}")
        await self._report(RecordPlace(*anew.place, anew.reached), error)

    def close(self, anew: Anew, *, write: bool) -> None:
        """Nothing that was on the partition can be read any more. Without ``write`` it is not noted
        yet: outside an agent nothing can be."""
        if anew.place[0] == self._file_access:
            self._state.unreadable.close(RecordPlace(*anew.place, anew.reached), write=write)
            self._marked(anew.place[1])

    def lift(self, message: Any) -> None:
        """A record was used; it may be one that could not be, sent again."""
        origin = self._origin(message)
        if origin is not None and self._state.unreadable.lift(origin):
            log.info("an unreadable record was read after all", record=str(origin))
            self._marked(message.partition)

    def dismiss(self, message: Any) -> None:
        """A record without a value: a tombstone, or a person's word about an unreadable one."""
        said = dismissed_by(message.headers)
        if said is None or self._origin(message) is None:
            return
        if self._state.unreadable.dismiss(said.place, said.dismissal, older=said.older):
            log.info("an unreadable record was dismissed", record=str(said.place),
                     by=said.dismissal.author, reason=said.dismissal.reason)  # fmt: skip
            self._marked(message.partition)

    async def _report(self, place: RecordPlace, error: Exception) -> None:
        await self._dead.put(
            topic=place.topic, partition=place.partition, offset=place.offset,
            key=None, value=None, error=error,
        )  # fmt: skip

    def _mark(self, place: RecordPlace, digest: Digest | None) -> None:
        known = digest in self._state.correlations
        if self._state.unreadable.put(place, digest, known=known):
            self._marked(place.partition)

    def _marked(self, partition: int) -> None:
        for digest in self._state.marked(partition):
            self._changed(digest)

    def _topic_id(self, message: Any) -> str:
        known = self._state.topic_ids.get((message.topic, message.partition), NO_ID)
        return "" if known == NO_ID else known

    def _origin(self, message: Any) -> RecordPlace | None:
        """The record that this one is, sent again; only on the partition that has its mark, and of
        this topic, whose offsets are not those of one that it mirrors."""
        topic_id = self._topic_id(message)
        if message.topic != self._file_access or (
            topic_id and topic_of(message.headers) != topic_id
        ):
            return None
        origin = origin_of(message.headers)
        here = (message.topic, message.partition)
        return origin if origin is not None and origin[:2] == here else None


def _digest_in(key: bytes | None) -> Digest | None:
    """None when it may be any image's: a container of one that nobody can name tells of itself on
    every partition."""
    try:
        digest = parse_digest((key or b"").decode())
    except (BadDigestError, UnicodeDecodeError):
        return None
    return None if digest == NO_IMAGE else digest
