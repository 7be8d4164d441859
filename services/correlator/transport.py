"""Faust's connection to Kafka, with a fence around what it sends (fence.py)."""

import asyncio
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from mode.services import WaitResults

from services.correlator.fence import Fence


class FencedApp(faust.App):
    """An app of which no changelog entry lands behind those of the worker that follows it."""

    fence: Fence

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


class _Producer(driver.Producer):
    def _new_producer(self, transactional_id: str | None = None) -> Any:
        app: Any = self.app
        return app.fence.guard(super()._new_producer(transactional_id), strict=True)


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        app: Any = self.app
        consumer = super()._create_worker_consumer(transport)
        app.fence.follow(consumer._client)
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *waited: Any, **options: Any) -> Any:
        """As Faust's, which makes four tasks for each record that it hands on, lest its stream be
        full or suspended: nearly all are handed on at once, and a recovery is many records."""
        handing, *others = waited
        if options or not all(map(asyncio.iscoroutine, waited)):
            return await super().wait_first(*waited, **options)
        begun = asyncio.ensure_future(handing)
        try:
            await asyncio.sleep(0)
        except BaseException:
            begun.cancel()
            _close(others)
            raise
        if not begun.done() or self.should_stop:
            return await super().wait_first(begun, *others)
        _close(others)
        return WaitResults([handing], [begun.result()], False)


def _close(coroutines: list[Any]) -> None:
    """They will not be awaited."""
    for one in coroutines:
        one.close()


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer
