"""Reads the topic image-scan into the memory: all of it at start, what comes later after that."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.codec import CodecError
from schemas.scans import decode_chunk
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic
from services.scanner.memory import Memory

log = structlog.get_logger()

_POLL_MS = 1000


class Follower:
    """A consumer of its own, without a group: each scanner knows what all have published."""

    def __init__(self, settings: CommonSettings, memory: Memory) -> None:
        self._memory = memory
        self._consumer = AIOKafkaConsumer(
            Topic.IMAGE_SCAN.name_in(settings),
            **connection(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        self._heard: dict[TopicPartition, int] = {}
        """Up to which offset the memory has taken everything."""
        self._took = asyncio.Event()

    async def start(self) -> None:
        """Reads what is on the topic now."""
        await self._consumer.start()
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        while await self._behind(ends):
            await self._take()
        log.info("scans on the topic", images=sum(1 for _ in self._memory))

    async def follow(self) -> None:
        """Reads on until it is cancelled."""
        while True:
            await self._take()

    async def catch_up(self) -> None:
        """Waits, beside ``follow``, until the memory has all that is on the topic now."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        while any(self._heard.get(partition, 0) < end for partition, end in ends.items()):
            self._took.clear()
            await self._took.wait()

    async def stop(self) -> None:
        """Closes the consumer."""
        await self._consumer.stop()

    async def _behind(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return True
        return False

    async def _take(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=100)
        await asyncio.to_thread(self._hear, [r for records in batches.values() for r in records])
        for partition in self._consumer.assignment():
            self._heard[partition] = await self._consumer.position(partition)
        self._took.set()

    def _hear(self, records: Iterable["ConsumerRecord[bytes, bytes]"]) -> None:
        for record in records:
            if record.value is None:
                continue
            try:
                self._memory.hear(decode_chunk(record.value))
            except CodecError as error:
                log.warning("scan on the topic cannot be read", partition=record.partition,
                            offset=record.offset, error=str(error))  # fmt: skip
