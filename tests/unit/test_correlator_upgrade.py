"""The correlator's changelog over an upgrade and a rollback: entries as the first release writes
them, as one before it did, and as a newer one may."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from services.correlator.store import container_bytes, published_of, restore_container, unpack_files
from tests.unit.factories import CONFIG, PERIOD, WEB, batch, package, scan
from vexstream.correlation import Correlation, Policy, Published
from vexstream.evidence import FileUse, Use
from vexstream.identity import Digest, Image, Workload
from vexstream.observation import Container, Place
from vexstream.rules import Rules
from vexstream.scan import Finding

_DIGEST = Digest("sha256:" + "a" * 64)
_WORKLOAD = Workload("shop", "cart", "web")
_FILES = (
    "KLUv/SBpDQMAVAV7Indvcmtsb2FkcyI6IFtbInNob3AiLCAiY2FydCIsICJ3ZWIiXV0sICJncm91cDMsIDcsIFswXSwg"
    "MV0sIFsxLCA5XX0KL2Jpbi91c2VkAGlkbGX/AwAt4ptZ2NGgyg=="
)
_CONTAINER: dict[str, Any] = {
    "node": "node-1", "workload": ["shop", "cart", "web"], "started_at_us": 5,
    "learning_period_us": 10, "seen_us": [5, 20], "clean": [[5, 20]],
    "lossy": [[20, 21, 2, ["ring_buffer"]]], "open": [], "ended": [30, 0],
    "image": {"config_digest": _DIGEST, "manifest_digests": ["sha256:" + "b" * 64],
              "names": ["web:1"]},
}  # fmt: skip
_PUBLISHED = [3, "s", "f", "b", "g", "e"]


def _restored(entry: dict[str, Any]) -> Container:
    correlation = Correlation(_DIGEST)
    restore_container(correlation, "c1", json.dumps(entry).encode())
    assert correlation.evidence is not None
    assert correlation.evidence.image.names == ("web:1",)
    return correlation.evidence.containers["c1"]


def test_files_of_the_first_release_are_read() -> None:
    assert dict(unpack_files(base64.b64decode(_FILES))) == {
        b"/bin/used": FileUse(3, 7, (_WORKLOAD,)),
        b"/bin/idle\xff": FileUse(1, 9, (_WORKLOAD,)),
    }


def test_a_script_that_an_earlier_release_held_for_a_program_shows_when_it_runs_anew() -> None:
    """Of what that has written down the bits alone are known: of all containers together."""
    tool, script = b"/data/tool", Use.EXECUTED | Use.REWRITTEN
    held = replace(package("held", b"/usr/bin/held"), perhaps_in=(b"/srv/shop.js",))
    correlation = Correlation(CONFIG)
    correlation.accept(scan([held], [Finding("CVE-1", "held")]))
    correlation.observe(batch(0, 10))
    assert correlation.evidence is not None
    correlation.evidence.restore(tool, FileUse(int(script | Use.MAPPED), 0, (WEB,)))
    before = correlation.due(Policy(Rules(PERIOD)))
    assert before is not None
    assert before.counts["not_affected"] == 1
    assert correlation.observe(batch(0, 10, [tool], use=script)).accesses, "to be written down"
    after = correlation.due(Policy(Rules(PERIOD)))
    assert after is not None
    assert after.counts["under_investigation"] == 1


@pytest.mark.parametrize("newer", [{}, {"of_a_newer_release": 1}])
def test_a_container_of_the_first_release_and_of_a_newer_one_is_read(newer: dict[str, Any]) -> None:
    restored = _restored(_CONTAINER | newer)
    assert restored == Container(
        "node-1", _WORKLOAD, 5, 10, 5, 20, clean=[(5, 20, "")],
        lossy={(20, 21): (2, ("ring_buffer",))}, open={}, ended=(30, 0),
    )  # fmt: skip


def test_what_was_observed_before_the_upgrade_goes_on_after_it() -> None:
    restored = _restored(_CONTAINER | {"lossy": []})
    restored.observe(20, 30, 0, (), Place("run"))
    again = _restored(json.loads(container_bytes(restored, Image(_DIGEST, (), ("web:1",)))))
    assert again.clean == restored.clean == [(5, 30, "run")]
    again.observe(30, 40, 0, (), Place("another run"))
    assert again.seen_whole_until() == 30


def test_a_container_of_before_ends_were_known_is_read() -> None:
    assert _restored({k: v for k, v in _CONTAINER.items() if k != "ended"}).ended is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (_PUBLISHED[:3], Published(3, "s", "f")),
        (_PUBLISHED[:5], Published(3, "s", "f", "b", "g")),
        (_PUBLISHED, Published(3, "s", "f", "b", "g", "e")),
        ([*_PUBLISHED, "of a newer release"], Published(3, "s", "f", "b", "g", "e")),
    ],
)
def test_what_was_published_is_read_of_every_release(entry: list[Any], expected: Published) -> None:
    assert published_of(json.dumps(entry).encode()) == expected
