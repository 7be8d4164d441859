"""Which dead letters may be sent again: none that would take the place of what came since."""

import pytest

from schemas.messages import DeadLetter
from services.common.dead_letters import _obstacle
from services.common.settings import CommonSettings
from services.common.topics import Topic


@pytest.mark.parametrize("topic", Topic)
def test_documents_and_evidence_are_not_sent_again(topic: Topic) -> None:
    settings = CommonSettings()
    letter = DeadLetter("api", topic.name_in(settings), 0, 7, b"key", b"value", "unknown_schema",
                        "", failed_at_us=1)  # fmt: skip
    why = _obstacle(letter, settings)
    if topic in (Topic.VEX_DOCUMENT, Topic.IMAGE_EVIDENCE):
        assert why is not None
        assert "vexstream rebuild" in why
    else:
        assert why is None
