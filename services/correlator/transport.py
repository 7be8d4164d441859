"""Faust's connection to Kafka, with a fence around what it sends (fence.py)."""

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

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


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer
