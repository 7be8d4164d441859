"""The ids of topics: a topic that was deleted and created again under its name has another one.

Kafka tells them since release 2.8 (KIP-516), in the answer to a metadata request of version 12,
which aiokafka does not speak: its fields are those of MetadataRequest.json and
MetadataResponse.json in Kafka's source (clients/src/main/resources/common/message).
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA = 3
_VERSION = 12
_ID_BYTES = 16
_NO_ID = bytes(_ID_BYTES)


class _Id(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_ID_BYTES)


class _Answer(Response):  # type: ignore[misc]
    API_KEY: ClassVar[int] = _METADATA
    API_VERSION: ClassVar[int] = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(
            ("node_id", Int32), ("host", CompactString()), ("port", Int32),
            ("rack", CompactString()), ("tags", TaggedFields),
        )),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        ("topics", CompactArray(
            ("error_code", Int16), ("name", CompactString()), ("topic_id", _Id),
            ("is_internal", Boolean),
            ("partitions", CompactArray(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32),
                ("leader_epoch", Int32), ("replicas", CompactArray(Int32)),
                ("isr", CompactArray(Int32)), ("offline_replicas", CompactArray(Int32)),
                ("tags", TaggedFields),
            )),
            ("authorized_operations", Int32), ("tags", TaggedFields),
        )),
        ("tags", TaggedFields),
    )  # fmt: skip


class _Question12(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY: ClassVar[int] = _METADATA
    API_VERSION: ClassVar[int] = _VERSION
    RESPONSE_TYPE: ClassVar[type[Response]] = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("topic_id", _Id), ("name", CompactString()), ("tags", TaggedFields),
        )),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )  # fmt: skip


class _Question(Request[_Question12]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Question12]) -> _Question12:
        no_tags: dict[int, bytes] = {}
        wanted = [(_NO_ID, name, no_tags) for name in self._topics]
        return request_struct_class(wanted, False, False, no_tags)


async def topic_ids(client: AIOKafkaClient, topics: Iterable[str]) -> dict[str, str]:
    """The ids of those topics that exist; of none where the broker does not know ids.

    Raises:
        KafkaError: no broker answers.
    """
    try:
        answer: Any = await client.send(client.get_random_node(), _Question(sorted(topics)))
    except NotImplementedError:  # the broker is older than topic ids
        return {}
    return {
        name: topic_id.hex()
        for error, name, topic_id, *_ in answer.topics
        if not error and topic_id != _NO_ID
    }
