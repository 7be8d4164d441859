"""Which images a container of an image that nobody can name may run, and what is told of them."""

from dataclasses import replace

import pytest

from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST, WEB, batch
from vexstream.evidence import Evidence
from vexstream.identity import NO_IMAGE, Digest, Image, Workload
from vexstream.nameless import REASON, as_of, may_be

NAMELESS = batch(0, 9, [b"/bin/x"], image=Image(NO_IMAGE))


def _ran(image: Image, workload: Workload = WEB) -> Evidence:
    evidence = Evidence(image)
    evidence.merge(batch(0, 1, image=image, workload=workload))
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
    assert may_be(replace(NAMELESS, image=asked), known) == fits


def test_its_manifest_may_be_known_by_the_scan_alone() -> None:
    asked = replace(NAMELESS, image=_asked((), (MANIFEST,)))
    known = _ran(Image(CONFIG, (INDEX,)))
    assert not may_be(asked, known)
    assert may_be(asked, known, (INDEX, MANIFEST))


def test_without_a_name_it_may_be_any_image_that_ran_on_its_node() -> None:
    assert may_be(NAMELESS, _ran(IMAGE))
    assert not may_be(replace(NAMELESS, node="node-2"), _ran(IMAGE))
    elsewhere = replace(WEB, namespace="east/default")
    assert not may_be(NAMELESS, _ran(IMAGE, elsewhere)), "a node by the same name"


def test_it_is_told_that_it_ran_and_not_what_it_used() -> None:
    told = as_of(replace(NAMELESS, parts=2), IMAGE)
    assert told.image == Image(CONFIG)
    assert (told.accesses, told.parts) == ((), 0)
    assert (told.lost, told.loss_reasons) == (1, (REASON,))
