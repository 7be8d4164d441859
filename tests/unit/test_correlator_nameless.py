"""A container of an image that nobody can name keeps open what that image may be until its workload
was seen whole, whichever of the two is seen first; over partitions and workers:
tests/integration/test_correlator_nameless.py."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlator.intake import NotRememberedError
from tests.unit.factories import CONFIG, IMAGE, INDEX, JOB, MANIFEST, WEB, batch, package, scan
from tests.unit.worker import Worker
from vexstream import nameless
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Digest, Image, Workload
from vexstream.nameless import AFTERWARDS_US
from vexstream.scan import Finding, Scan

LAYERS, OTHER_LAYERS = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
SCAN = replace(scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")]), layers=LAYERS)
NAMELESS = Image(NO_IMAGE, (), IMAGE.names)
DAY = AFTERWARDS_US // 1_000_000


async def test_a_workload_that_is_seen_whole_under_its_name_is_covered() -> None:
    worker = Worker()
    await worker.use(SCAN)
    assert await worker.take(batch(0, 60, [b"/bin/used"])) == ["not_affected"]
    nameless = batch(
        50, 61, [b"/bin/idle"], image=NAMELESS, workload=JOB, container="c9", started=50, lost=1
    )
    (why,) = await worker.take(nameless)
    assert "default/job/app: events were lost (image_unknown, ring_buffer)" in why
    evidence = worker.state.of(CONFIG).evidence
    assert evidence is not None
    assert set(evidence.files) == {b"/bin/used"}, "a file of that name is another's"
    whole = batch(70, 90, workload=JOB, container="c10", started=70)
    assert await worker.take(whole) == ["not_affected"]


def _nameless(asked: Image = NAMELESS, start: int = 50, container: str = "gone") -> Batch:
    return batch(
        start, start + 1, image=asked, workload=JOB, container=container, started=start, lost=1
    )


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_image_that_is_seen_when_its_nameless_container_is_gone_is_open(
    restarts: bool,
) -> None:
    worker = Worker()
    await worker.use(SCAN)
    await worker.use(replace(_nameless(), exit_code=0))
    if restarts:
        worker.restart()
    (why,) = await worker.take(batch(1000 * DAY, 1000 * DAY + 60, started=1000 * DAY))
    assert "default/job/app: events were lost (image_unknown, ring_buffer)" in why
    if restarts:
        worker.restart()
        await worker.flush()
    start = 1001 * DAY
    whole = batch(start, start + 60, workload=JOB, container="named", started=start)
    assert await worker.take(whole) == ["not_affected"]


async def test_an_image_that_gets_the_name_when_the_container_is_gone_is_open() -> None:
    worker = Worker()
    await worker.use(SCAN)
    await worker.use(_nameless())
    unknown = Image(CONFIG, (), ("quay.io/other:1",))
    assert await worker.take(batch(0, 60, image=unknown)) == ["not_affected"]
    (why,) = await worker.take(batch(60, 120))
    assert "image_unknown" in why


async def test_an_image_whose_scan_finds_the_manifest_when_the_container_is_gone_is_open() -> None:
    worker = Worker()
    image = Image(CONFIG, (INDEX,))
    await worker.use(_nameless(Image(NO_IMAGE, (MANIFEST,))))
    await worker.use(batch(0, 60, image=image))
    both = replace(image, manifest_digests=(MANIFEST, INDEX))
    (why,) = await worker.take(replace(SCAN, image=both))
    assert "image_unknown" in why


async def test_only_images_with_its_layers_are_open() -> None:
    worker = Worker()
    await worker.use(_nameless(replace(NAMELESS, layers=OTHER_LAYERS)))
    await worker.use(batch(0, 60))
    worker.restart()
    assert await worker.take(SCAN) == ["not_affected"]
    worker.restart()
    (why,) = await worker.take(_nameless(Image(NO_IMAGE, layers=LAYERS), container="same"))
    assert "image_unknown" in why


@pytest.mark.parametrize("told_first", [True, False])
async def test_a_twin_of_the_image_that_its_container_is_credited_to_is_open(
    told_first: bool,
) -> None:
    """And not that image itself, of which nothing else is known."""
    worker = Worker()
    doubted = replace(NAMELESS, layers=LAYERS, other_than=SECOND_IMAGE.config_digest)
    mine = replace(doubted, other_than=CONFIG)
    if told_first:
        await worker.use(_nameless(mine))
        worker.restart()
    await worker.use(SCAN)
    assert await worker.take(batch(0, 60)) == ["not_affected"]
    assert await worker.take(_nameless(mine)) == []
    worker.restart()
    (why,) = await worker.take(_nameless(doubted))
    assert "image_unknown" in why


async def test_what_was_written_of_an_image_alone_is_open_after_a_crash() -> None:
    """The changelog may end between the image's own entry and those of what else it may be."""
    worker = Worker()
    await worker.use(SCAN)
    await worker.use(_nameless())
    await worker.use(batch(0, 60))
    del worker.evidence[f"c|{CONFIG}|node-1/gone".encode()]
    worker.restart()
    await worker.flush()
    assert "image_unknown" in worker.said[CONFIG]


async def test_one_too_many_is_told_to_what_is_known_and_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nameless, "MAX_REMEMBERED", 0)
    worker = Worker()
    await worker.use(SCAN)
    assert await worker.take(batch(0, 60)) == ["not_affected"]
    with pytest.raises(NotRememberedError):
        await worker.use(_nameless())
    await worker.flush()
    assert "image_unknown" in worker.said[CONFIG]


SECOND_IMAGE = Image(Digest("sha256:" + "d" * 64), (INDEX,), ("shop/cart:1",))
OTHER, THIRD = (Workload("default", name, "app") for name in ("of-another-image", "third"))
RECORDS: list[Batch | Scan] = [
    SCAN,
    replace(SCAN, image=replace(SECOND_IMAGE, manifest_digests=(MANIFEST, INDEX)), layers=None),
    batch(5 * DAY, 5 * DAY + 100, started=5 * DAY),
    batch(5 * DAY + 100, 5 * DAY + 200, image=replace(IMAGE, names=("app:1",)), started=5 * DAY),
    replace(batch(3 * DAY, 3 * DAY + 100, started=3 * DAY, container="c2"), node="node-2"),
    batch(5 * DAY, 5 * DAY + 90, image=SECOND_IMAGE, container="c3", started=5 * DAY),
    batch(9 * DAY, 9 * DAY + 90, image=SECOND_IMAGE, workload=JOB, container="c4", started=9 * DAY),
    _nameless(),
    replace(_nameless(start=51), started_at_us=0, exit_code=0),
    _nameless(Image(NO_IMAGE, (), ("docker.io/library/app:1",)), 7 * DAY, "by-alias"),
    _nameless(Image(NO_IMAGE, (MANIFEST,)), DAY, "by-manifest"),
    _nameless(Image(NO_IMAGE), DAY, "bare-long-before"),
    _nameless(Image(NO_IMAGE), 4 * DAY, "bare"),
    replace(_nameless(Image(NO_IMAGE), 2 * DAY, "bare-there"), node="node-2", workload=WEB),
    replace(
        _nameless(Image(NO_IMAGE, (), ("shop/cart:1",)), 2 * DAY, "there"),
        node="node-2",
        workload=THIRD,
    ),
    _nameless(Image(NO_IMAGE, (), ("a:1",), LAYERS), DAY, "by-layers"),
    replace(
        _nameless(replace(NAMELESS, layers=LAYERS, other_than=CONFIG), container="doubted"),
        workload=OTHER,
    ),
    replace(
        _nameless(replace(NAMELESS, layers=OTHER_LAYERS), container="of-others"), workload=OTHER
    ),
]


@given(st.permutations(range(len(RECORDS))), st.sets(st.sampled_from(range(len(RECORDS)))))
def test_in_whatever_order_they_are_seen_the_documents_are_the_same(
    order: Sequence[int], restarts: set[int]
) -> None:
    assert asyncio.run(_documents(order, restarts)) == _in_order()


@cache
def _in_order() -> dict[str, bytes]:
    found = asyncio.run(_documents(range(len(RECORDS)), set()))
    assert {digest: body.count(b"image_unknown") for digest, body in found.items()} == {
        CONFIG: 1, SECOND_IMAGE.config_digest: 1,
    }  # fmt: skip
    return found


async def _documents(order: Sequence[int], restarts: Collection[int]) -> dict[str, bytes]:
    worker = Worker()
    for number in order:
        if number in restarts:
            worker.restart()
        await worker.use(RECORDS[number])
    await worker.flush()
    return worker.bodies
