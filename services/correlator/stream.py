"""The source partitions of a worker, read without a gap: what the stream processor skipped is read
again, what the broker does not have any more is given up in words, and a topic that was made anew
is read from its beginning."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP, ConsumerMessage

from services.common import metrics
from services.common.topic_ids import topic_ids
from services.common.topics import Topic
from services.correlator.beginnings import NO_ID, Anew, BegunAnewError, begun_anew
from services.correlator.burials import Burials
from services.correlator.continuity import (
    Bounds,
    Continuity,
    Place,
    RecordsGoneError,
    bounds_now,
    read_again,
)
from services.correlator.partitions import NotPassedOnError
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.store import EntryGoneError
from services.correlator.tenure import Tenure

log = structlog.get_logger()

Handle = Callable[[Any], Awaitable[None]]
_NUDGE = "vexstream-nudge"
"""Header of a record of our own in the stream, made up where records were skipped."""
_PAUSES = (0.1, 0.3, 0.6)
"""Seconds, after each of the times that ends are asked for."""


class Stream:
    """Knows how far each source partition has come, and of which topic it is."""

    def __init__(
        self,
        settings: CorrelatorSettings,
        app: Any,
        sender: AIOKafkaProducer,
        state: State,
        tenure: Tenure,
        burials: Burials,
        failed: Callable[[BaseException], None],
    ) -> None:
        """``failed`` is called with what only a new start helps against."""
        self._settings = settings
        self._app = app
        self._sender = sender
        self._state = state
        self._tenure = tenure
        self._burials = burials
        self._failed = failed
        self._file_access = Topic.FILE_ACCESS.name_in(settings)
        self._image_scan = Topic.IMAGE_SCAN.name_in(settings)
        self._source_topics = {self._file_access, self._image_scan}
        self._read_topics = {*self._source_topics, Topic.VEX_DECISION.name_in(settings)}
        self._continuity = Continuity()
        self._anew: dict[Place, Anew] = {}
        """Partitions of which it is still to be noted that they began anew."""
        self._topic_ids: dict[str, str] = {}

    def behind(self, partition: int) -> bool:
        """Records that were there when it was taken over have not been used yet."""
        return self._continuity.behind(partition)

    async def take(self, message: Any, handle: Handle) -> None:
        """Uses a record, and before it what was skipped.

        Raises:
            OvertakenError: the partition is another worker's meanwhile.
            EntryGoneError: the state is not whole any more.
            NotPassedOnError: it belongs on another partition, and is not there.
        """
        place, tenure = (message.topic, message.partition), self._tenure.count
        self._tenure.require(tenure)  # before anything of it is noted
        await self._begin(place)
        if message.value is None and _NUDGE in dict(message.headers or ()):
            skipped = self._continuity.reach(*place, message.offset + 1)
        else:
            skipped = self._continuity.arrive(*place, message.offset)
        if skipped:
            await self._make_up(*place, skipped, handle, tenure)
        self._tenure.require(tenure)
        await self._use(message, handle)
        self._continuity.used(*place)

    async def look_for_skipped(self) -> None:
        """Where records were skipped and none comes after them, a record of our own does: its agent
        then reads all that is missing before it."""
        if not self._tenure.holds:
            return
        places = self._sources()
        try:
            ids = await topic_ids(self._sender.client, self._read_topics)
            ends, short = await self._ends(places)
            fetched = [await self._app.consumer.position(tp) for tp in places]
        except KafkaError as error:
            log.warning("the ends of the partitions cannot be asked for", error=str(error))
            return
        anew = [name for name, now in sorted(ids.items()) if now != self._topic_ids.get(name)]
        if anew or short:
            self._failed(BegunAnewError(f"{', '.join(anew + short)} begins anew"))
            return
        overdue = self._continuity.overdue(
            {(tp[0], tp[1]): ends[tp] for tp in places},
            {(tp[0], tp[1]): position or 0 for tp, position in zip(places, fetched, strict=True)},
        )
        for place in overdue:
            nudge = ConsumerMessage(
                *place, ends[TP(*place)] - 1, 0.0, 0, [(_NUDGE, b"")], None, None, None,
                generation_id=self._app.consumer_generation_id,
            )  # fmt: skip
            with contextlib.suppress(KeyError):  # a partition that is not ours any more
                await self._app.topics.on_message(nudge)

    async def _ends(self, places: Sequence[TP]) -> tuple[Mapping[TP, int], list[str]]:
        """Where the partitions end, and those that end before what was read of them already. Such
        are asked for again: a broker that is busy may tell an end that was passed."""
        for pause in _PAUSES:
            reached = self._continuity.reached()
            ends: Mapping[TP, int] = await self._app.consumer.highwaters(*places)
            short = [
                f"{tp[0]}[{tp[1]}] ends at {ends[tp]} where {before} were read: it"
                for tp in places
                if ends[tp] < (before := reached.get((tp[0], tp[1]), 0))
            ]
            if not short:
                break
            await asyncio.sleep(pause)
        return ends, short

    async def bounds(self, mine: Set[int]) -> Bounds:
        """Where the partitions that were taken over stand on the broker.

        Raises:
            BegunAnewError: a topic is not whole now.
        """
        sources = self._sources()
        for topic in self._source_topics:
            if missing := mine - {tp.partition for tp in sources if tp.topic == topic}:
                # Deleted while the group shared it out; it would stay nobody's.
                raise BegunAnewError(f"{topic}, without partition {min(missing)} now, begins anew")
        self._topic_ids = await topic_ids(self._sender.client, self._read_topics)
        return await bounds_now(self._settings, self._settings.correlator_group, sources)

    async def place(self, bounds: Bounds) -> None:
        """Where to go on; Faust seeks to what is committed, after this. The state is there."""
        self._anew = begun_anew(
            bounds, self._state.topics(self._file_access, self._image_scan), self._topic_ids
        )
        starts = bounds.first | bounds.committed
        for place, anew in self._anew.items():
            log.warning("a partition is read from its beginning", topic=place[0],
                        partition=place[1], reason=anew.why, may_be_lost=anew.lost)  # fmt: skip
            starts[place] = anew.first
            if anew.lost:
                self._burials.close(anew, write=False)
        if self._anew:
            firsts = {TP(*place): anew.first for place, anew in self._anew.items()}
            if not await self._app.consumer._commit(firsts):
                self._failed(ConnectionError("the group did not take the new offsets"))
        self._continuity.begin(starts, bounds.end)

    async def _begin(self, place: Place) -> None:
        """Notes of which topic the records of a partition are; only its agent can."""
        self._state.note_topic(place, self._topic_ids.get(place[0], NO_ID))
        anew = self._anew.pop(place, None)
        if anew is not None and anew.lost:
            await self._burials.begin_anew(anew)

    async def _use(self, message: Any, handle: Handle) -> None:
        if message.value is None:
            self._burials.dismiss(message)
            return
        try:
            await handle(message)
        except (EntryGoneError, NotPassedOnError):
            raise
        except Exception as error:  # whatever it is: the record must not be lost
            await self._burials.bury(message, error)
        else:
            self._burials.lift(message)

    async def _make_up(
        self, topic: str, partition: int, offsets: range, handle: Handle, tenure: int
    ) -> None:
        count = 0
        try:
            async for record in read_again(self._settings, topic, partition, offsets):
                self._tenure.require(tenure)
                await self._use(record, handle)
                count += 1
        except RecordsGoneError as error:
            self._tenure.require(tenure)
            await self._burials.give_up((topic, partition), error)
        # Else Faust would never commit beyond what it has not seen.
        await self._app.consumer._add_gap(TP(topic, partition), offsets.start, offsets[-1])
        if count:
            metrics.SKIPPED_RECORDS.inc(count)
            log.warning("records that the stream had skipped were read again", topic=topic,
                        partition=partition, records=count)  # fmt: skip

    def _sources(self) -> list[TP]:
        """The source partitions of this worker."""
        return [tp for tp in self._app.consumer.assignment() if tp.topic in self._source_topics]
