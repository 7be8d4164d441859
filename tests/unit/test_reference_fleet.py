"""The rules of the reference model over several images, partitions and workers: containers that
change their image under the same name, digests that images share, records on the wrong partition,
twice or skipped by the stream, decisions, garbage, nameless containers, a group that shares its
partitions out anew, and workers that die before the changelogs had all.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from services.correlator.settings import CorrelatorSettings
from tests.unit.factories import INDEX, SECOND, batch, scan
from tests.unit.fleet import ACCESS, PARTITIONS, SCANS, Fleet, partition_of
from tests.unit.reference import (
    PACKAGES,
    Again,
    Decided,
    Dismiss,
    Event,
    Garbage,
    Look,
    expected,
    ruled_out,
)
from tests.unit.test_reference_model import PATHS, PERIOD, SILENCE, WORKLOADS, histories
from vexstream.decision_log import Blank
from vexstream.decisions import EVERY, Decision, DecisionSource
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.rules import DataAccess
from vexstream.scan import FailureReason, Finding, ManifestDigest, PlatformImage, Scan, ScanFailure
from vexstream.status import Status


def _digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def _on(partition: int, count: int) -> list[Digest]:
    found = (one for one in map(_digest, range(1, 100)) if partition_of(one) == partition)
    return [next(found) for _ in range(count)]


_CONFIGS = [*_on(0, 2), *_on(1, 1)]
_MANIFESTS = [_digest(1000 + n) for n in range(len(_CONFIGS))]
IMAGES = [
    Image(config, tuple(sorted((manifest, INDEX))), ("registry.example/shop:1", f"own:{number}"))
    for number, (config, manifest) in enumerate(zip(_CONFIGS, _MANIFESTS, strict=True))
]
"""Two on one partition, and one on another; they share a name and an index."""


@dataclass(frozen=True)
class Take:
    """Workers take in so many records of a partition, the first after ``skip`` others."""

    topic: str
    partition: int
    count: int
    skip: int = 0


@dataclass(frozen=True)
class Produce:
    """A record; ``partition`` is the one it is put on by mistake."""

    event: Event
    partition: int | None = None


@dataclass(frozen=True)
class ShareOut:
    """By partition: which worker has it now. So many records were not committed."""

    owner: tuple[int, ...]
    lag: int


@dataclass(frozen=True)
class Die:
    """A worker, and what its changelogs never got."""

    worker: int
    files: int
    scans: int
    published: int
    lag: int


@dataclass(frozen=True)
class Meanwhile:
    """Records that come while documents are on their way."""

    places: tuple[tuple[str, int], ...]


Act = Take | Produce | ShareOut | Die | Meanwhile | Look


@st.composite
def _batches(draw: st.DrawFn) -> list[Batch]:
    told = draw(histories())
    nodes = draw(st.lists(st.sampled_from(["node-1", "node-1", "node-2"]), min_size=6, max_size=6))
    images = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=6, max_size=6))
    changes = draw(st.dictionaries(st.integers(0, 5), st.integers(1, 4), max_size=2))
    claims = draw(st.sets(st.integers(0, 40), max_size=2))
    ran = draw(st.sets(st.integers(0, 40), max_size=2))
    count: dict[str, int] = {}
    moved: dict[str, tuple[Image, int]] = {}
    found = []
    for number, b in enumerate(told):
        which = int(b.container_id[1:])
        image, started = moved.get(b.container_id, (IMAGES[images[which]], b.started_at_us))
        count[b.container_id] = count.get(b.container_id, 0) + 1
        if changes.get(which) == count[b.container_id] - 1:
            # The name comes again, with another image.
            image, started = draw(st.sampled_from(IMAGES)), b.observed_from_us
            moved[b.container_id] = (image, started)
        if number in claims:
            others = tuple(sorted({*image.manifest_digests, draw(st.sampled_from(_MANIFESTS))}))
            image = replace(image, manifest_digests=others)
        uses = tuple(a._replace(use=Use.EXECUTED) if number in ran else a for a in b.accesses)
        found.append(
            replace(b, node=nodes[which], image=image, started_at_us=started, accesses=uses)
        )
    return found


@st.composite
def _scans(draw: st.DrawFn, image: Image, manifest: Digest) -> list[Scan]:
    times = draw(st.lists(st.integers(0, 50), unique=True, max_size=2))
    found = []
    for at in [60, *times]:
        there = [one for one in PACKAGES if draw(st.integers(0, 9))]
        made = replace(
            scan(there, [Finding("CVE-1", one.id) for one in there if draw(st.integers(0, 9))]),
            image=image, scanned_at_us=at * SECOND,
            manifests=(
                ManifestDigest(manifest, (PlatformImage(manifest),)),
                ManifestDigest(INDEX, tuple(PlatformImage(one) for one in _MANIFESTS)),
            ),
        )  # fmt: skip
        if at != 60 and draw(st.integers(0, 3)) == 0:
            why = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "slow")
            made = replace(made, packages=(), findings=(), manifests=(), failure=why)
        found.append(made)
    return found


@st.composite
def _decided(draw: st.DrawFn) -> list[Event]:
    records: list[Event] = []
    for number in range(draw(st.integers(0, 3))):
        one = draw(st.sampled_from(PACKAGES))
        made = Decision(
            scope=draw(st.sampled_from([*_CONFIGS, *_MANIFESTS, INDEX, EVERY])),
            vulnerability="CVE-1",
            package=draw(st.sampled_from([one.purl.partition("?")[0], one.purl])),
            status=draw(st.sampled_from([*Status, Status.NOT_AFFECTED])),
            text="it is so", author="alice",
            source=draw(st.sampled_from([DecisionSource.HUMAN, DecisionSource.OPENVEX])),
            decided_at_us=draw(st.integers(0, 20)) * 10 + number,
        )  # fmt: skip
        records.append(Decided(made.key, made))
        last = draw(st.sampled_from([None, None, Blank.WITHDRAWN, Blank.UNREADABLE]))
        records += [Decided(made.key, last)] if last is not None else []
    return records


@st.composite
def _nameless(draw: st.DrawFn) -> list[Event]:
    asked = draw(
        st.sampled_from(
            [
                *(Image(NO_IMAGE, (one,)) for one in (*_MANIFESTS, INDEX)),
                *(Image(NO_IMAGE, (), (name,)) for name in ("registry.example/shop:1", "own:1")),
                Image(NO_IMAGE),
            ]
        )
    )
    start = draw(st.integers(0, 20))
    told = batch(
        start, start + 2, [PATHS[1]], image=asked, workload=draw(st.sampled_from(WORKLOADS)),
        container=draw(st.sampled_from(["c0", "nameless"])), started=start,
    )  # fmt: skip
    return [replace(told, node=draw(st.sampled_from(["node-1", "node-2", "node-3"])))]


@st.composite
def _fleets(draw: st.DrawFn) -> list[Act]:
    told = draw(_batches())
    if draw(st.booleans()):
        told = draw(st.permutations(told))
    acts: list[Act] = [Produce(one) for one in told]

    def put(more: Sequence[Act]) -> None:
        at = 0
        for one in more:
            at = draw(st.integers(at, len(acts)))
            acts.insert(at, one)
            at += 1

    for one in draw(st.lists(st.sampled_from(told), max_size=3)) if told else ():
        put([Produce(one, draw(st.sampled_from([None, 0, 1])))])
    for image, manifest in zip(IMAGES, _MANIFESTS, strict=True):
        put([Produce(one) for one in draw(st.permutations(draw(_scans(image, manifest))))])
    put([Produce(one) for one in draw(_decided())])
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        put([Produce(one) for one in draw(_nameless())])
    for number in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        image = draw(st.sampled_from(IMAGES))
        of = draw(st.sampled_from([None, image.config_digest]))
        place = partition_of(image.config_digest)
        again = Again(number, batch(0, 1, [PATHS[1]], image=image))
        last: list[Event] = draw(st.sampled_from([[], [Dismiss(number)], [again]]))
        wrong = place if of is None else draw(st.sampled_from([None, 0, 1]))
        put([Produce(Garbage(number, of), wrong), *map(Produce, last)])
    takes = st.builds(
        Take, st.sampled_from([ACCESS, ACCESS, SCANS]), st.integers(0, PARTITIONS - 1),
        st.integers(1, 9), st.sampled_from([0, 0, 0, 1, 2]),
    )  # fmt: skip
    owners = st.tuples(*[st.integers(0, 1)] * PARTITIONS)
    back = st.integers(0, 5)
    put(draw(st.lists(takes, max_size=14)))
    put(draw(st.lists(st.builds(ShareOut, owners, st.integers(0, 4)), max_size=2)))
    put(draw(st.lists(st.builds(Die, st.integers(0, 1), back, back, back, back), max_size=2)))
    looks: list[Act] = [Look() for _ in range(draw(st.integers(0, 5)))]
    sending = st.tuples(st.sampled_from([ACCESS, SCANS]), st.integers(0, PARTITIONS - 1))
    for at in draw(st.sets(st.integers(0, 4), max_size=2)):
        looks.insert(at, Meanwhile(tuple(draw(st.lists(sending, min_size=1, max_size=3)))))
    put(looks)
    everything: list[Act] = [
        Take(topic, p, 1000) for topic in (ACCESS, SCANS) for p in range(PARTITIONS)
    ]
    acts += [*everything, Look()]
    if bool(told) and draw(st.booleans()):
        # A late use, and whoever read it does not come to say so.
        one = draw(st.sampled_from(told))
        late = batch(60, 61, [PATHS[0]], container="late", workload=one.workload, started=60,
                     image=one.image)  # fmt: skip
        place = partition_of(one.image.config_digest)
        acts += [Produce(late), Take(ACCESS, place, 1)]
    if draw(st.booleans()):
        crash = Die(draw(st.integers(0, 1)), *[draw(back) for _ in range(4)])
        acts += [crash, Look(), *draw(st.lists(takes, max_size=4))]
    return [*acts, Look(), *everything, Look()]


_POLICIES = st.builds(
    lambda strict, data, files: CorrelatorSettings(
        learning_period_seconds=PERIOD, minimum_learning_period_seconds=1,
        strict_coverage=strict, silence_seconds=SILENCE, data_access=data, files_in_memory=files,
    ),
    st.booleans(), st.sampled_from(list(DataAccess)), st.sampled_from([1, 10**6]),
)  # fmt: skip


def follows(fleet: Fleet, image: Image, policy: CorrelatorSettings) -> dict[str, Status] | None:
    """What is to be said of an image by all that was ever read of its partition."""
    here = partial(_is_here, partition=partition_of(image.config_digest))
    past = [one for one in fleet.used[partition_of(image.config_digest)] if here(one)]
    read = any(isinstance(one, Scan) and one.image == image and one.failure is None for one in past)
    known = image if read else Image(image.config_digest)
    return expected([*past, *fleet.decided], policy, replace(known, names=()))


def _is_here(event: Event, partition: int) -> bool:
    """It lies where it belongs."""
    if isinstance(event, Batch):
        digest = event.image.config_digest
        return digest == NO_IMAGE or partition_of(digest) == partition
    return not isinstance(event, Garbage) or event.of is None or partition_of(event.of) == partition


async def _live(acts: Sequence[Act], policy: CorrelatorSettings) -> Fleet:
    fleet = Fleet(policy)
    await fleet.start()
    for act in acts:
        if isinstance(act, Produce):
            fleet.produce(act.event, act.partition)
        elif isinstance(act, Take):
            for number in range(act.count):
                await fleet.take(act.topic, act.partition, act.skip if number == 0 else 0)
        elif isinstance(act, Meanwhile):
            fleet.meanwhile = list(act.places)
        elif isinstance(act, ShareOut):
            await fleet.share_out(list(act.owner), act.lag)
        elif isinstance(act, Die):
            lost = {"evidence": act.files, "scans": act.scans, "published": act.published}
            await fleet.crash(act.worker, lost, act.lag)
        else:
            await _look(fleet, policy)
    return fleet


async def _look(fleet: Fleet, policy: CorrelatorSettings) -> None:
    before = {image.config_digest: fleet.said(image.config_digest) for image in IMAGES}
    await fleet.look()
    for image in IMAGES:
        said, follow = fleet.said(image.config_digest), follows(fleet, image, policy)
        if fleet.has_all(image.config_digest):
            assert said == follow
        else:
            assert ruled_out(said) <= ruled_out(before[image.config_digest]) | ruled_out(follow)
            if fleet.is_behind(image.config_digest):
                assert ruled_out(said) <= ruled_out(before[image.config_digest])


@settings(max_examples=60, deadline=None)
@given(_fleets(), _POLICIES)
def test_whoever_has_the_partitions_what_is_said_follows_from_what_came(
    acts: list[Act], policy: CorrelatorSettings
) -> None:
    asyncio.run(_live(acts, policy))
