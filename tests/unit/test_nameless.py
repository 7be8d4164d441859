"""Which images a container of an image that nobody can name may run, what is told of them, and what
is remembered of it."""

import hashlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST, SECOND, WEB, batch
from vexstream import identity, nameless
from vexstream.evidence import Batch, Evidence
from vexstream.identity import NO_IMAGE, Digest, Image, Workload, first_aliases
from vexstream.layers import chain_id
from vexstream.nameless import (
    AFTERWARDS_US,
    REASON,
    UNREAD,
    Images,
    Read,
    Remembered,
    may_be,
    nameless_in,
    tell,
)
from vexstream.observation import MAX_LOSSES

NAMELESS = batch(0, 9, [b"/bin/x"], image=Image(NO_IMAGE))
DAY = AFTERWARDS_US // SECOND
LAYERS, OTHER_LAYERS = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)


def _ran(image: Image, workload: Workload = WEB, started: int = 0) -> Evidence:
    evidence = Evidence(image)
    evidence.merge(batch(started, started + 1, image=image, workload=workload, started=started))
    return evidence


def _asked(names: tuple[str, ...] = (), manifests: tuple[Digest, ...] = ()) -> Image:
    return Image(NO_IMAGE, manifests, names)


@pytest.mark.parametrize(
    ("asked", "names", "fits"),
    [
        (_asked(("app:1",)), ("app:1", "app:2"), True),
        (_asked(("app:1",)), ("docker.io/library/app:1",), True),
        (_asked(("docker.io/acme/app",)), ("acme/app:latest",), True),
        (_asked(("localhost:5000/app",)), ("localhost:5000/app:latest",), True),
        (_asked(("app:1",)), ("app:2",), False),
        (_asked(("app:1",)), ("quay.io/app:1",), False),
        (_asked(("app:1",)), (), False),
        (_asked((), (MANIFEST,)), ("app:1",), True),
        (_asked((), (INDEX,)), ("app:1",), False),
        (_asked(("app:1",), (INDEX,)), ("app:1",), True),
    ],
)
def test_it_may_be_an_image_of_its_digest_or_name(
    asked: Image, names: tuple[str, ...], fits: bool
) -> None:
    known = _ran(Image(CONFIG, (MANIFEST,), names))
    told = nameless_in(replace(NAMELESS, image=asked))
    assert may_be(told, known) == fits
    assert tell(known, _remembered(told)) == ([told] if fits else [])


def _remembered(*told: nameless.Nameless) -> Remembered:
    remembered = Remembered()
    for one in told:
        assert remembered.add(one) == one
    return remembered


def test_its_manifest_may_be_known_by_the_scan_alone() -> None:
    asked = nameless_in(replace(NAMELESS, image=_asked((), (MANIFEST,))))
    known = _ran(Image(CONFIG, (INDEX,)))
    assert not may_be(asked, known)
    read = Read(is_there=True, manifests=(INDEX, MANIFEST))
    assert may_be(asked, known, read)
    assert tell(known, _remembered(asked), read) == [asked]


@pytest.mark.parametrize(
    ("names", "read", "fits"),
    [
        (("quay.io/other:1",), Read(True, (), LAYERS), True),
        (IMAGE.names, Read(True, (), LAYERS), True),
        (IMAGE.names, Read(True, (), OTHER_LAYERS), False),
        ((), Read(True, (), OTHER_LAYERS), False),
        (IMAGE.names, UNREAD, False),
        (IMAGE.names, Read(True), True),
        (("quay.io/other:1",), Read(True), False),
        ((), Read(True), True),
    ],
)
def test_its_layers_tell_exactly_which_image_it_may_be(
    names: tuple[str, ...], read: Read, fits: bool
) -> None:
    """Once the image is scanned: before, nothing is ruled out of it. A scan that has not read the
    layers, as one of an older release, leaves the names."""
    asked = Image(NO_IMAGE, (), names, LAYERS)
    told, known = nameless_in(replace(NAMELESS, image=asked)), _ran(IMAGE)
    assert may_be(told, known, read) == fits
    assert tell(known, _remembered(told), read) == ([told] if fits else [])


def test_what_is_told_under_another_digest_concerns_the_others_alone() -> None:
    asked = Image(NO_IMAGE, (), IMAGE.names, LAYERS, other_than=CONFIG)
    told, read = nameless_in(replace(NAMELESS, image=asked)), Read(True, (), LAYERS)
    twin = replace(IMAGE, config_digest=Digest("sha256:" + "d" * 64))
    for image, fits in ((IMAGE, False), (twin, True)):
        assert may_be(told, _ran(image), read) is fits
        assert tell(_ran(image), _remembered(told), read) == ([told] if fits else [])
    bare = nameless_in(replace(NAMELESS, image=Image(NO_IMAGE, other_than=CONFIG)))
    assert not may_be(bare, _ran(IMAGE))


def test_layers_are_called_as_the_specification_says() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    both = hashlib.sha256(f"{one} {two}".encode()).hexdigest()
    three = hashlib.sha256(f"sha256:{both} {one}".encode()).hexdigest()
    assert chain_id({"rootfs": {"diff_ids": [one]}}) == one
    assert chain_id({"rootfs": {"diff_ids": [one, two, one]}}) == f"sha256:{three}"


@pytest.mark.parametrize("rootfs", [None, [], {}, {"diff_ids": []}, {"diff_ids": ["?"]}])
def test_without_layers_they_are_called_nothing(rootfs: object) -> None:
    assert chain_id({"rootfs": rootfs}) is None


def test_it_may_be_an_image_that_has_more_names_than_are_held() -> None:
    many = Image(CONFIG, (), first_aliases(f"app:{'0' * 64}{n}" for n in range(9_000)))
    assert len(many.names) < 9_000
    told = nameless_in(replace(NAMELESS, image=_asked(("zzz:1",))))
    assert may_be(told, _ran(many))
    assert tell(_ran(many), _remembered(told)) == [told]
    images = Images()
    assert images.learn(CONFIG, many, UNREAD, None)
    assert images.perhaps(told) == {CONFIG}
    assert not may_be(told, _ran(Image(CONFIG, (), many.names[:-100])))


@given(st.lists(st.lists(st.text(min_size=1, max_size=9), max_size=9), max_size=5), st.randoms())
def test_that_there_are_more_names_than_are_held_is_known_in_whatever_order_they_come(
    told: list[list[str]], random: Random
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "MAX_ALIASES_BYTES", 200)
        patch.setattr(identity, "_LONGEST", 112)
        whole = Image(CONFIG, (), first_aliases(name for names in told for name in names))
        random.shuffle(told)
        image = Image(CONFIG)
        for names in told:
            image = image.merged(Image(CONFIG, (), first_aliases(names)))
        assert image.has_more is whole.has_more
        assert image.has_more or {*image.names} == {name for names in told for name in names}


def test_without_a_name_it_may_be_any_image_that_ran_on_its_node() -> None:
    assert may_be(nameless_in(NAMELESS), _ran(IMAGE))
    assert not may_be(nameless_in(replace(NAMELESS, node="node-2")), _ran(IMAGE))
    elsewhere = replace(WEB, namespace="east/default")
    assert not may_be(nameless_in(NAMELESS), _ran(IMAGE, elsewhere)), "a node by the same name"


@pytest.mark.parametrize(
    ("namespace", "fits"), [("host-1", True), ("host-1/moby", True), ("host-2/moby", False)]
)
def test_a_plain_host_is_one_whatever_runs_containers_on_it(namespace: str, fits: bool) -> None:
    """Docker's have no namespace of their own: what stands there is the host alone."""
    told = replace(NAMELESS, workload=replace(WEB, namespace="host-1/default"))
    assert may_be(nameless_in(told), _ran(IMAGE, replace(WEB, namespace=namespace))) == fits


@pytest.mark.parametrize(("started", "fits"), [(9, True), (9 + DAY, True), (10 + DAY, False)])
def test_without_a_name_it_is_none_that_came_to_its_node_long_after_its_end(
    started: int, fits: bool
) -> None:
    told = nameless_in(NAMELESS)
    assert may_be(told, _ran(IMAGE, started=started)) == fits
    assert bool(tell(_ran(IMAGE, started=started), _remembered(told))) == fits


@pytest.mark.parametrize("days", [(0, 1000), (1000, 0), (0, 1000, 2000)])
def test_it_is_the_first_container_of_an_image_on_a_node_that_counts(days: tuple[int, ...]) -> None:
    told, images = nameless_in(NAMELESS), Images()
    evidence = Evidence(IMAGE)
    for day in days:
        start = day * DAY
        evidence.merge(batch(start, start + 1, container=f"c{day}", started=start))
        container = evidence.containers[f"node-1/c{day}"]
        assert images.learn(CONFIG, IMAGE, UNREAD, container) == (day in (0, days[0]))
    assert may_be(told, evidence)
    assert _remembered(told).that_may_be(evidence) == [told]
    assert images.perhaps(told) == {CONFIG}


def test_by_one_that_it_may_be_an_image_may_have_been_on_one_more_node() -> None:
    bare = nameless_in(replace(NAMELESS, container_id="bare", node="node-2"))
    named = nameless_in(
        replace(NAMELESS, container_id="named", node="node-2", image=_asked((), (MANIFEST,)))
    )
    assert tell(_ran(IMAGE), _remembered(bare)) == []
    assert tell(_ran(IMAGE), _remembered(bare, named)) == [named, bare]


_READ = [UNREAD, Read(True), Read(True, (MANIFEST,)), Read(True, (), LAYERS)]


@given(
    st.lists(st.tuples(st.sampled_from([Image(CONFIG), IMAGE, Image(CONFIG, (), ("app:1",))]),
                       st.sampled_from(_READ), st.sampled_from(["node-1", "node-2"]),
                       st.sampled_from(["", "shop", "shop/east"]), st.integers(0, DAY + 20)),
             min_size=1, max_size=4),
    st.sampled_from([_asked(("app:1",)), _asked((), (MANIFEST,)), _asked(IMAGE.names), _asked(),
                     Image(NO_IMAGE, layers=LAYERS)]),
    st.sampled_from(["", "shop", "shop/east"]),
)  # fmt: skip
def test_an_image_that_it_may_be_is_found_and_told_again_when_it_is_known_by_more(
    steps: list[tuple[Image, Read, str, str, int]], asked: Image, cluster: str
) -> None:
    told = nameless_in(replace(NAMELESS, image=asked, workload=replace(WEB, namespace=cluster)))
    images, evidence, was = Images(), Evidence(Image(CONFIG)), False
    for number, (image, read, node, namespace, started) in enumerate(steps):
        one = batch(started, started + 1, image=image, container=f"c{number}", started=started)
        one = replace(one, node=node, workload=replace(WEB, namespace=namespace))
        evidence.merge(one)
        container = evidence.containers[one.container]
        news = images.learn(CONFIG, evidence.image, read, container)
        is_now = may_be(told, evidence, read)
        assert news or was or not is_now
        assert not is_now or CONFIG in images.perhaps(told)
        assert not images.learn(CONFIG, evidence.image, read, container), "nothing new"
        was = is_now


def test_it_is_told_that_it_ran_and_not_what_it_used() -> None:
    told = nameless_in(replace(NAMELESS, parts=2))
    evidence = _ran(IMAGE)
    assert evidence.add_losses(told.identifier, told.container)
    assert not evidence.add_losses(told.identifier, told.container), "the same again"
    assert (evidence.image, evidence.files) == (IMAGE, {})
    assert evidence.containers[told.identifier].lossy == {(0, 9 * SECOND): (1, (REASON,))}


_ASKED = [Image(NO_IMAGE), _asked(("app:1",)), _asked((), (MANIFEST,))]


@st.composite
def _told(draw: st.DrawFn) -> Batch:
    start = draw(st.integers(0, 2 * MAX_LOSSES))
    told = batch(
        start,
        start + draw(st.integers(0, 3)),
        image=draw(st.sampled_from(_ASKED)),
        container=draw(st.sampled_from(["c1", "c2"])),
        started=draw(st.integers(0, 3)),
        lost=draw(st.integers(0, 2)),
        period=draw(st.sampled_from([None, 60])),
    )
    return replace(told, exit_code=draw(st.sampled_from([None, 0, 1])))


@given(st.lists(_told(), max_size=20), st.integers(1, MAX_LOSSES + 2), st.randoms())
def test_what_is_remembered_says_what_the_batches_said(
    incoming: list[Batch], repeated: int, random: Random
) -> None:
    """An image that is known at last has just the containers of one that was told of each batch."""
    incoming += [
        replace(one, observed_to_us=one.observed_to_us + number)
        for one in incoming[:1]
        for number in range(repeated)
    ]
    at_once, later, shuffled = _ran(IMAGE), _ran(IMAGE), Remembered()
    for one in incoming:
        told = nameless_in(one)
        at_once.add_losses(told.identifier, told.container)
    again = [*incoming, *incoming[:5]]
    random.shuffle(again)
    for one in again:
        assert shuffled.add(nameless_in(one)) is not None
    for told in shuffled:
        later.add_losses(told.identifier, told.container)
    assert at_once == later


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameless, "MAX_REMEMBERED", 2)
    remembered = Remembered()
    told = [nameless_in(replace(NAMELESS, container_id=f"c{number}")) for number in range(3)]
    assert [bool(remembered.add(one)) for one in told] == [True, True, False]
    assert remembered.add(nameless_in(replace(NAMELESS, container_id="c1"))), "it is known"
    assert len(remembered) == 2
