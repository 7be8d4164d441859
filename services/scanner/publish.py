"""Puts scans on the topic image-scan, where the evidence of the same image is."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from schemas.scans import ScanChunk, encode_chunk
from vexstream.identity import Digest


class Publisher:
    """Sends the chunks of a scan to the partition of its image."""

    def __init__(self, sender: AIOKafkaProducer, topic: str) -> None:
        self._sender = sender
        self._topic = topic

    async def publish(self, chunks: list[ScanChunk], former_count: int = 0) -> None:
        """Sends a scan and waits until the broker has it.

        ``former_count`` chunks of the image's former scan are on the topic: those that the new one
        does not replace are removed, after the new one is there.
        """
        digest = chunks[0].config_digest
        partition = await self._partition(digest)
        await self._send({chunk.key: encode_chunk(chunk) for chunk in chunks}, partition)
        surplus = range(len(chunks), former_count)
        keys = [ScanChunk(digest, "", index, former_count, b"").key for index in surplus]
        await self._send(dict.fromkeys(keys), partition)

    async def _send(self, records: dict[bytes, bytes | None], partition: int) -> None:
        sent = [
            await self._sender.send(self._topic, key=key, value=value, partition=partition)
            for key, value in records.items()
        ]
        await asyncio.gather(*sent)

    async def _partition(self, digest: Digest) -> int:
        """Where the collector's records of the image are: the same key hash, without '#index'."""
        return partition_of(digest, await self._sender.partitions_for(self._topic))


def partition_of(digest: Digest, partitions: Iterable[int]) -> int:
    """The partition of every record whose key is the digest."""
    known = sorted(partitions)
    return int(DefaultPartitioner()(digest.encode(), known, known))
