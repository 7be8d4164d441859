"""The topics, their settings, and how they come to be."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from services.common.kafka import connection
from services.common.settings import CommonSettings


class Topic(StrEnum):
    """Names without the prefix."""

    FILE_ACCESS = "file-access"
    IMAGE_SEEN = "image-seen"
    IMAGE_SCAN = "image-scan"
    VEX_DOCUMENT = "vex-document"
    VEX_DECISION = "vex-decision"
    STATEMENT_COMMENT = "statement-comment"
    IMAGE_EVIDENCE = "image-evidence"
    DEAD_LETTER = "dead-letter"

    def name_in(self, settings: CommonSettings) -> str:
        """Full name on the broker."""
        return settings.topic_prefix + self.value


@dataclass(frozen=True, slots=True)
class _Spec:
    config: dict[str, str]
    one_partition: bool = False


_DAY_MS = str(24 * 3600 * 1000)
_WEEK_MS = str(7 * 24 * 3600 * 1000)
_SPECS = {
    Topic.FILE_ACCESS: _Spec({"cleanup.policy": "delete", "retention.ms": _WEEK_MS}),
    Topic.IMAGE_SEEN: _Spec({"cleanup.policy": "delete", "retention.ms": _WEEK_MS}),
    Topic.IMAGE_SCAN: _Spec({"cleanup.policy": "compact"}),
    Topic.VEX_DOCUMENT: _Spec({"cleanup.policy": "compact"}),
    # Time for a reader to mend what an older record does to a newer one (api/decision_follower.py).
    Topic.VEX_DECISION: _Spec(
        {"cleanup.policy": "compact", "min.compaction.lag.ms": _DAY_MS}, one_partition=True
    ),
    Topic.STATEMENT_COMMENT: _Spec({"cleanup.policy": "compact"}, one_partition=True),
    Topic.IMAGE_EVIDENCE: _Spec({"cleanup.policy": "compact"}),
    Topic.DEAD_LETTER: _Spec(
        {"cleanup.policy": "delete", "retention.ms": _WEEK_MS}, one_partition=True
    ),
}


async def ensure_topics(settings: CommonSettings, changelogs: Iterable[str] = ()) -> None:
    """Creates the topics that do not exist yet, and changelogs of these names; leaves those that do
    as they are."""
    specs = {topic.name_in(settings): spec for topic, spec in _SPECS.items()}
    specs |= {name: _Spec({"cleanup.policy": "compact"}) for name in changelogs}
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        wanted = [
            NewTopic(
                name,
                num_partitions=1 if spec.one_partition else settings.partitions,
                replication_factor=settings.replication_factor,
                topic_configs=spec.config,
            )
            for name, spec in specs.items()
            if name not in existing
        ]
        if wanted:
            response = await admin.create_topics(wanted)
            for name, code, *_ in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(f"topic {name}")
    finally:
        await admin.close()
