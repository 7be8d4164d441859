"""Records that nobody has read keep open what they may be about, also for the next worker."""

from types import SimpleNamespace
from typing import Any

import pytest

from schemas.codec import BadRecordError
from schemas.messages import decode_dead_letter
from services.common.kafka import DeadLetterBox
from services.common.origin import Dismissed, dismissal_headers, origin_headers
from services.correlator.beginnings import Anew
from services.correlator.burials import Burials
from services.correlator.continuity import RecordsGoneError
from services.correlator.partitions import Partitions
from services.correlator.state import State
from tests.unit.factories import CONFIG, batch
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.unreadable import ALL_READ, Dismissal, RecordPlace, Unread

ACCESSES, SCANS = "vexstream.file-access", "vexstream.image-scan"
ANEW = Anew((ACCESSES, 0), first=3, reached=9, lost=True, why="it was deleted")


class Worker:
    """Burials over a state of one image, which is on the only partition."""

    def __init__(self, evidence: dict[bytes, bytes] | None = None) -> None:
        self.evidence = {} if evidence is None else evidence
        self.letters: list[RecordPlace] = []
        self.changed: list[Digest] = []
        sender: Any = self
        partitions = Partitions(1, sender)
        self.state = State(self.evidence, {}, {}, 10**6, partitions.of)
        self.burials = Burials(
            ACCESSES, self.state, DeadLetterBox("correlator", "dead", sender), partitions,
            self.changed.append,
        )  # fmt: skip
        self.state.rebuild(lambda _: True)

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> None:
        """As of the producer of dead letters."""
        assert topic == "dead"
        letter = decode_dead_letter(value)
        self.letters.append(RecordPlace(letter.topic, letter.partition, letter.offset))

    def dismiss(self, offset: int, *, older: bool) -> None:
        said = Dismissed(
            RecordPlace(ACCESSES, 0, offset), Dismissal("alice", "a test"), older=older
        )
        headers = dismissal_headers(said, "")
        self.burials.dismiss(SimpleNamespace(topic=ACCESSES, partition=0, headers=headers))

    def unread(self) -> list[Unread]:
        """What this worker knows, and the next one."""
        return [each.state.of(CONFIG).unread for each in (self, Worker(self.evidence))]


@pytest.fixture
def worker() -> Worker:
    made = Worker()
    made.state.observe(batch(0, 10), keep_heartbeat=True)
    return made


async def test_records_that_are_gone_keep_every_image_of_their_partition_open(
    worker: Worker,
) -> None:
    await worker.burials.give_up((ACCESSES, 0), RecordsGoneError(ACCESSES, 0, range(3, 7)))
    last = RecordPlace(ACCESSES, 0, 6)
    assert worker.unread() == [Unread((last,))] * 2
    assert worker.letters == [last]
    assert worker.changed == [CONFIG]
    worker.dismiss(5, older=True)
    assert worker.unread() == [Unread((last,))] * 2
    worker.dismiss(6, older=False)
    assert not any(unread.blocks for unread in worker.unread())
    assert worker.changed == [CONFIG] * 2


async def test_what_a_partition_that_begins_anew_had_keeps_every_image_open(
    worker: Worker,
) -> None:
    await worker.burials.begin_anew(ANEW)
    assert worker.unread() == [Unread(more=True)] * 2
    assert worker.letters == [RecordPlace(ACCESSES, 0, 9)]
    assert worker.changed == [CONFIG]
    worker.dismiss(8, older=True)
    worker.dismiss(9, older=False)
    assert worker.unread() == [Unread(more=True)] * 2
    worker.dismiss(9, older=True)
    assert worker.unread() == [ALL_READ] * 2


def test_outside_an_agent_it_is_known_and_not_written(worker: Worker) -> None:
    before = dict(worker.evidence)
    worker.burials.close(ANEW, write=False)
    assert worker.state.of(CONFIG).unread == Unread(more=True)
    assert worker.evidence == before


async def test_scans_that_are_gone_are_told_and_keep_nothing_open(worker: Worker) -> None:
    await worker.burials.give_up((SCANS, 0), RecordsGoneError(SCANS, 0, range(3, 7)))
    await worker.burials.begin_anew(Anew((SCANS, 0), 3, 9, lost=True, why="it was deleted"))
    assert worker.letters == [RecordPlace(SCANS, 0, 6), RecordPlace(SCANS, 0, 9)]
    assert worker.unread() == [ALL_READ] * 2


@pytest.mark.parametrize(
    "key", [None, b"", b"\xff", b"sha256:x", NO_IMAGE.encode(), CONFIG.encode()]
)
async def test_a_record_that_cannot_be_read_keeps_open_what_its_key_names_or_all(
    worker: Worker, key: bytes | None
) -> None:
    other = Digest("sha256:" + "d" * 64)
    worker.state.observe(batch(0, 10, image=Image(other)), keep_heartbeat=True)
    message = SimpleNamespace(
        topic=ACCESSES, partition=0, offset=4, key=key, value=b"garbage", headers=()
    )
    await worker.burials.bury(message, BadRecordError("garbage"))
    assert worker.unread() == [Unread((RecordPlace(ACCESSES, 0, 4),))] * 2
    assert worker.state.of(other).unread.blocks is (key != CONFIG.encode())
    assert worker.changed == ([CONFIG] if key == CONFIG.encode() else [CONFIG, other])
    again = SimpleNamespace(
        topic=ACCESSES, partition=0, headers=origin_headers(RecordPlace(ACCESSES, 1, 4), "")
    )
    worker.burials.lift(again)
    assert worker.state.of(CONFIG).unread.blocks, "it is of another partition"
    again.headers = origin_headers(RecordPlace(ACCESSES, 0, 4), "")
    worker.burials.lift(again)
    assert worker.unread() == [ALL_READ] * 2
