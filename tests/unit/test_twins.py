"""Which packages a consumer of a document may take for each other."""

import pytest

from tests.unit.factories import package
from vexstream.twins import alike, twins


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pkg:pypi/zope.interface@5.0", "pkg:pypi/zope-interface@5.0"),
        ("pkg:pypi/zope.interface@5.0", "pkg:pypi/Zope_Interface@5.0"),
        ("pkg:pypi/a--b@1", "pkg:pypi/a.b@1"),
        ("pkg:pypi/one@1.0RC1", "pkg:pypi/one@1.0rc1"),
        ("pkg:golang/stdlib@1.22.3", "pkg:golang/stdlib@v1.22.3"),
        ("pkg:golang/stdlib@1.22.3", "pkg:golang/stdlib@go1.22.3"),
        ("pkg:deb/debian/dns@1%3A9.18?arch=amd64", "pkg:deb/debian/dns@9.18?epoch=1&arch=i386"),
        ("pkg:deb/debian/dns@1%3A2.0%2Bdev1", "pkg:deb/debian/dns@2.0%2Bdev1?epoch=1"),
        ("pkg:golang/one@v1.0.0-dev1", "pkg:golang/one@1.0.0-dev1"),
        ("pkg:rpm/fedora/one@2.0?epoch=1", "pkg:rpm/fedora/one@2.0?epoch=2"),
        ("pkg:npm/%40scope/one@1", "pkg:npm/@scope/one@1"),
    ],
)
def test_what_differs_in_spelling_architecture_or_epoch_is_alike(one: str, other: str) -> None:
    packages = [package("one", id="1", purl=one), package("other", id="2", purl=other)]
    assert alike(one) == alike(other)
    assert twins(packages) == {"1": (packages[1],), "2": (packages[0],)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pkg:pypi/one@1", "pkg:pypi/one@2"),
        ("pkg:pypi/one@1", "pkg:npm/one@1"),
        ("pkg:npm/one@1", "pkg:npm/%40scope/one@1"),
        ("pkg:pypi/ab@1", "pkg:pypi/a-b@1"),
        ("pkg:deb/debian/one@1%3A2%3A3", "pkg:deb/debian/one@3"),
        ("", ""),
    ],
)
def test_others_are_no_twins(one: str, other: str) -> None:
    assert not twins([package("one", id="1", purl=one), package("other", id="2", purl=other)])


def test_of_three_each_has_the_two_others() -> None:
    three = [package("one", id=str(n), purl=f"pkg:npm/one@1?x={n}") for n in range(3)]
    assert {own: {other.id for other in others} for own, others in twins(three).items()} == {
        "0": {"1", "2"}, "1": {"0", "2"}, "2": {"0", "1"},
    }  # fmt: skip
