"""Keeps the resources equal to the topic vex-document.

Each start reads the compacted topic from its beginning, which is the newest document of every
image, compares it with what is in Kubernetes, and then removes resources of ours that the topic no
longer knows. So nothing has to be remembered between two runs: no offsets, no consumer group.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from schemas.codec import CodecError
from schemas.documents import decode_document
from services.common import metrics
from services.common.kafka import DeadLetterBox, connection
from services.common.topics import Topic
from services.kubescape.errors import KubernetesUnavailableError, ResourceRefusedError
from services.kubescape.resources import Resources
from services.kubescape.settings import KubescapeSettings
from vexstream.document import DocumentState
from vexstream.identity import BadDigestError, parse_digest
from vexstream.kubescape import NotOursError, resource, resource_name

log = structlog.get_logger()

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

_POLL_MS = 1000
_BATCH = 50
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Mirror:
    """``trouble`` says why it does not move, None when it does."""

    def __init__(
        self, settings: KubescapeSettings, resources: Resources, sender: AIOKafkaProducer
    ) -> None:
        self._namespace = settings.kubescape_namespace
        self._resources = resources
        self._dead = DeadLetterBox("kubescape", Topic.DEAD_LETTER.name_in(settings), sender)
        # Without a group: all partitions, from their beginning.
        self._consumer = AIOKafkaConsumer(
            Topic.VEX_DOCUMENT.name_in(settings),
            **connection(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        self._standing: set[str] = set()
        """Names of the resources that the topic asks for."""
        self.trouble: str | None = "the topic is being read for the first time"

    async def run(self) -> None:
        """Follows the topic until it is cancelled."""
        await self._consumer.start()
        try:
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
            while await self._behind(ends):
                await self._take()
            await self._insist(self._remove_leftovers)
            self.trouble = None
            log.info("resources are those of the topic", resources=len(self._standing))
            while True:
                await self._take()
        finally:
            await self._consumer.stop()

    async def _behind(self, ends: dict[TopicPartition, int]) -> bool:
        for place, end in ends.items():
            if await self._consumer.position(place) < end:
                return True
        return False

    async def _take(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH)
        for records in batches.values():
            # Of several records of an image only the newest counts.
            for record in {record.key: record for record in records}.values():
                await self._insist(partial(self._mirror, record))

    async def _insist(self, action: Callable[[], Awaitable[None]]) -> None:
        """Until Kubernetes takes it: a document that is skipped would leave an old one standing."""
        pause_s = _FIRST_PAUSE_S
        before = self.trouble
        while True:
            try:
                await action()
            except KubernetesUnavailableError as error:
                self.trouble = str(error)
                log.warning("waiting for Kubernetes", reason=self.trouble, pause_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self.trouble = before
                return

    async def _mirror(self, record: Record) -> None:
        try:
            name = resource_name(parse_digest((record.key or b"").decode("ascii", "replace")))
        except BadDigestError as error:
            await self._bury(record, error, "bad_key")
            return
        try:
            wanted = self._wanted(record)
            if wanted is None:
                await self._remove(name)
                return
            if wanted["metadata"]["name"] != name:
                raise NotOursError("the document is about another image than its key says")
            changed = await self._resources.apply(wanted)
        except (CodecError, NotOursError, ResourceRefusedError) as error:
            # What stands is older, and may rule out what the new document does not.
            await self._remove(name)
            await self._bury(record, error, error.reason)
            return
        self._standing.add(name)
        metrics.KUBESCAPE_RESOURCES.labels("written" if changed else "unchanged").inc()

    def _wanted(self, record: Record) -> dict[str, Any] | None:
        """The resource that a record asks for; None when it asks for none."""
        if record.value is None:
            return None
        document = decode_document(record.value)
        if document.state is not DocumentState.DOCUMENT:
            return None
        return resource(json.loads(document.body), self._namespace)

    async def _remove(self, name: str) -> None:
        self._standing.discard(name)
        if await self._resources.delete(name):
            metrics.KUBESCAPE_RESOURCES.labels("deleted").inc()

    async def _remove_leftovers(self) -> None:
        for name in await self._resources.names() - self._standing:
            await self._remove(name)

    async def _bury(self, record: Record, error: Exception, reason: str) -> None:
        metrics.KUBESCAPE_RESOURCES.labels("refused").inc()
        await self._dead.bury(record, error, reason=reason)
