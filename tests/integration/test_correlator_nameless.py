"""Containers of an image that nobody can name, told to real workers on a real broker: every image
that one may run is open from then on, whichever partition it lies on and whenever it is seen first,
and no other image is."""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.publish import Publisher
from services.common.topics import Topic
from services.local.process import Daemon
from tests.support.correlators import Bench, correlator, kill
from tests.support.slow import slow
from tests.unit.factories import INDEX, JOB, MANIFEST, batch, package, scan
from vexstream.document import DocumentRecord
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.scan import Finding

pytestmark = pytest.mark.real

NAMES = ("used", "idle", "late", "later")
SCAN = scan(
    [package(name, f"/bin/{name}".encode()) for name in NAMES],
    [Finding("CVE-1", name) for name in NAMES],
)
LAYERS, OTHER_LAYERS = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
OPEN = "default/job/app: events were lost (image_unknown)"
UNREAD = "[evidence_unreadable]"

Fleet = Mapping[str, Sequence[Image]]
"""What makes a nameless container fit them -> images, one on each partition."""
Wanted = Callable[[str], Mapping[str, str]]
"""What makes it fit -> package -> what is right to say of it."""


def fleet(bench: Bench, first: int = 1) -> Fleet:
    digests = (Digest(f"sha256:{number:064x}") for number in itertools.count(first))

    def lying_on(partition: int) -> Digest:
        return next(one for one in digests if bench.partition(one) == partition)

    partitions = range(bench.settings.partitions)
    return {
        "name": [Image(lying_on(at), (), ("docker.io/shop/cart:1",)) for at in partitions],
        "digest": [Image(lying_on(at), (MANIFEST,)) for at in partitions],
        "scan": [Image(lying_on(at), (INDEX,)) for at in partitions],
        "node": [Image(lying_on(at), (), (f"quay.io/away:{at}",)) for at in partitions],
        "layers": [Image(lying_on(at), (), (f"quay.io/renamed:{at}",)) for at in partitions],
        "nothing": [Image(lying_on(at), (), (f"quay.io/other:{at}",)) for at in partitions],
    }


def nameless() -> list[Batch]:
    """They are of another workload than the one that is seen whole."""
    told = batch(20, 21, [b"/bin/later"], workload=JOB, started=20)
    return [
        replace(told, container_id=f"c-{node}", image=image, node=node)
        for image, node in (
            (Image(NO_IMAGE, (), ("shop/cart:1",)), "node-8"),
            (Image(NO_IMAGE, (MANIFEST,)), "node-9"),
            (Image(NO_IMAGE), "node-2"),
            (Image(NO_IMAGE, (), ("quay.io/third:1",)), "node-1"),
            (Image(NO_IMAGE, (), ("quay.io/other:0", "quay.io/other:1"), LAYERS), "node-7"),
        )
    ]


async def tell(bench: Bench, batches: list[Batch]) -> None:
    """By the collector's own hand, which knows that it has to be on every partition."""
    publisher = Publisher(bench.settings)
    publisher.offer(batches, [])
    assert await publisher.flush(60)
    await publisher.close()


async def observe(bench: Bench, images: Fleet, start: int, end: int, path: bytes) -> None:
    """The workload of every image at work, on whichever node it runs."""
    nodes = {"node": "node-2"}
    await bench.batches(
        replace(
            batch(start, end, [path], image=image, sequence=start), node=nodes.get(why, "node-1")
        )
        for why, group in images.items()
        for image in group
    )


def newcomers(bench: Bench) -> Fleet:
    """Other images that it fits as well, which nobody has seen yet."""
    return fleet(bench, 1 << 32)


async def see_whole(bench: Bench, images: Fleet, wanted: Wanted | None = None) -> None:
    for why, image in [(why, image) for why, group in images.items() for image in group]:
        read = replace(image, manifest_digests=(MANIFEST, INDEX)) if why == "scan" else image
        layers = LAYERS if why == "layers" else OTHER_LAYERS
        await bench.scan(replace(SCAN, image=read, layers=layers))
    await observe(bench, images, 0, 10, b"/bin/used")
    said = wanted or (lambda _: statuses("not_affected"))
    await bench.until(lambda found: is_said(found, images, said))


def statuses(rest: str, *used: str) -> dict[str, str]:
    """Of each package, where these were used too."""
    return dict.fromkeys(NAMES, rest) | dict.fromkeys(("used", *used), "affected")


def opened(*used: str) -> Wanted:
    """What is right once the nameless containers were told."""
    return lambda why: statuses("not_affected" if why == "nothing" else OPEN, *used)


def is_said(found: list[DocumentRecord], images: Fleet, wanted: Wanted) -> bool:
    """Whether the last document of each image says what is wanted of its kind."""
    last = {record.image.config_digest: record.body for record in found if record.body}
    return all(
        wanted(why).items() <= _said(last.get(image.config_digest, b"")).items()
        for why, group in images.items()
        for image in group
    )


def _said(body: bytes) -> dict[str, str]:
    """Package -> its status, or why it is open."""
    said = {}
    for statement in json.loads(body or b'{"statements": []}')["statements"]:
        purl = statement["products"][0]["subcomponents"][0]["@id"]
        name = purl.removeprefix("pkg:deb/debian/").partition("@")[0]
        said[name] = statement["status"]
        if said[name] == "under_investigation":
            notes = statement["status_notes"]
            said[name] = next((why for why in (OPEN, UNREAD) if why in notes), notes)
    return said


@contextlib.contextmanager
def two_workers(bench: Bench, folder: Path) -> Iterator[tuple[Daemon, Daemon]]:
    with (
        correlator(bench.settings, folder / "one") as one,
        correlator(bench.settings, folder / "two") as two,
    ):
        yield one, two


def partitions_of(worker: Daemon) -> list[int]:
    """Those of which a worker has taken the state last."""
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line[:1] == "{"]
    taken: list[list[int]] = [one["partitions"] for one in lines if one["event"] == "recovered"]
    return taken[-1]


def counted(found: list[DocumentRecord]) -> Counter[Digest]:
    return Counter(record.image.config_digest for record in found)


async def test_every_image_that_it_may_be_is_open_on_whichever_partition_it_lies(
    bench: Bench, tmp_path: Path
) -> None:
    images = fleet(bench)
    with two_workers(bench, tmp_path) as workers:
        await see_whole(bench, images)
        shared_out = [partitions_of(one) for one in workers]
        assert all(shared_out)
        assert sorted(itertools.chain(*shared_out)) == [0, 1, 2]
        await tell(bench, nameless())
        found = await bench.until(lambda found: is_said(found, images, opened()))
        assert NO_IMAGE not in counted(found)
        await tell(bench, nameless())
        await observe(bench, images, 10, 11, b"/bin/late")  # used after what came again
        after = await bench.until(lambda found: is_said(found, images, opened("late")))
        await see_whole(bench, newcomers(bench), opened())
    assert set((counted(after) - counted(found)).values()) == {1}, "what came again changed some"


@slow
async def test_it_is_known_after_a_crash_and_to_whoever_takes_over(
    bench: Bench, tmp_path: Path
) -> None:
    images = fleet(bench)
    with two_workers(bench, tmp_path) as (one, two):
        await see_whole(bench, images)
        await tell(bench, nameless())
        await bench.until(lambda found: is_said(found, images, opened()))
        await bench.until_committed()  # else it would only be read again
        kill(one)
        await observe(bench, images, 10, 11, b"/bin/late")
        await bench.until(lambda found: is_said(found, images, opened("late")))
        await bench.until_committed()
        kill(two)
    with correlator(bench.settings, tmp_path / "three"):
        await see_whole(bench, newcomers(bench), opened())
        await observe(bench, images, 11, 12, b"/bin/later")
        await bench.until(lambda found: is_said(found, images, opened("late", "later")))


async def test_one_that_cannot_be_read_may_be_any_image_of_its_partition(
    bench: Bench, tmp_path: Path
) -> None:
    images = fleet(bench)
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    ours: Fleet = {"ours": [group[0] for group in images.values()]}
    others: Fleet = {"others": [one for group in images.values() for one in group[1:]]}
    with correlator(bench.settings, tmp_path):
        await see_whole(bench, images)
        await bench.sender.send_and_wait(topic, b"garbage", key=NO_IMAGE.encode(), partition=0)
        await bench.until(lambda found: is_said(found, ours, lambda _: statuses(UNREAD)))
        await observe(bench, others, 10, 11, b"/bin/late")
        await bench.until(
            lambda found: is_said(found, others, lambda _: statuses("not_affected", "late"))
        )
