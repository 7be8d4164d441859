"""Reads all decisions of people and vendors: every worker needs every one of them."""

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.common.kafka import DeadLetterBox, connection
from services.common.mending import mended_by, record_of, seal_of
from services.common.settings import CommonSettings
from services.common.topic_ids import topic_ids
from services.common.topics import Topic
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY


class DecisionReader:
    """Follows the topic vex-decision from its beginning; ``loaded`` once all were read."""

    def __init__(
        self, settings: CommonSettings, dead: DeadLetterBox, changed: Callable[[str], None]
    ) -> None:
        """``changed`` is called with the scope of every decision that came or went later."""
        self._settings = settings
        self._dead = dead
        self._changed = changed
        self.decisions = Decisions()
        self.loaded = asyncio.Event()

    async def run(self) -> None:
        """Reads until it is cancelled."""
        partition = TopicPartition(Topic.VEX_DECISION.name_in(self._settings), 0)
        # Where it has read what is not there any more, decisions hold that nobody takes back.
        consumer = AIOKafkaConsumer(
            **connection(self._settings), enable_auto_commit=False, auto_offset_reset="none"
        )
        async with consumer:
            consumer.assign([partition])
            ids = await topic_ids(consumer._client, [partition.topic])
            self.decisions.topic_id = ids.get(partition.topic, "")
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while True:
                if not self.loaded.is_set() and await consumer.position(partition) >= end:
                    self.loaded.set()
                found = await consumer.getmany(partition, timeout_ms=500)
                scopes = [await self._take(message) for message in found.get(partition, [])]
                # Each once: a document may say a hundred thousand things of every image there is.
                for scope in dict.fromkeys(filter(None, scopes)):
                    self._changed(scope)

    async def _take(self, message: ConsumerRecord) -> str | None:
        """The scope of what it has changed, once all were read."""
        key = message.key or b""
        record, error = record_of(key, message.value)
        if error is not None:
            await self._dead.bury(message, error)
        mends = mended_by(message.headers, self.decisions.topic_id)
        changed = self.decisions.take(key, record, message.offset, mends, seal_of(message))
        if not changed or not self.loaded.is_set():
            return None
        return key.decode("utf-8", "replace").split("|")[1] if b"|" in key else EVERY
