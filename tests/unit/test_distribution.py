"""Who built a package, by what its database says."""

import pytest

from vexstream.distribution import foreign
from vexstream.maintainers import checksum, is_known

_SITES = ["https://www.kali.org/", ""]


def of(kind: str, *makers: str | None) -> list[bool]:
    return foreign(kind, makers, _SITES)


@pytest.mark.parametrize(
    ("maker", "other"),
    [
        ("Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>", False),
        ("Matthias Klose <doko@DEBIAN.org>", False),
        ("Ubuntu Developers <ubuntu-devel-discuss@lists.ubuntu.com>", False),
        ("Kali Developers <devel@kali.org>", False),
        ("Debian Team <team@lists.debian.org>, Somebody <s@else.example>", False),
        ("Shop <dev@shop.example>", True),
        ("Shop <dev@notdebian.org>", True),
        ("Shop <dev@debian.org.shop.example>", True),
        ("Authors <https://shop.example/>", True),
        ("root", True),
        ("", True),
        (None, False),
    ],
)
def test_a_debs_maintainer(maker: str | None, other: bool) -> None:
    assert of("deb", maker) == [other]


@pytest.mark.parametrize(
    ("site", "host", "other"),
    [
        ("https://pop.system76.com", "system76.com", False),
        ("https://www.shop.org.uk/help", "lists.shop.org.uk", False),
        ("https://www.shop.org.uk/help", "else.org.uk", True),
        ("https://github.com/shop/os/issues", "users.noreply.github.com", True),
        ("https://shop.github.io/", "else.github.io", True),
        ("https://bugs.launchpad.net/ubuntu/", "users.launchpad.net", True),
        ("http://10.0.0.1/", "10.1.0.1", True),
        ("http://intranet/", "mail.intranet", True),
        ("http://org.uk/", "else.org.uk", True),
    ],
)
def test_the_sites_of_os_release_name_the_distributions_domain(
    site: str, host: str, *, other: bool
) -> None:
    assert foreign("deb", [f"Somebody <dev@{host}>"], [site]) == [other]


def test_debians_maintainers_with_other_addresses_are_known() -> None:
    assert of("deb", "Marco d'Itri <md@linux.it>", "Marco <MD@linux.it>") == [False, False]
    assert not is_known("dev@shop.example")
    assert checksum("A@b.example") == checksum("a@B.example")


def test_an_rpms_vendor() -> None:
    assert of("rpm", "Fedora Project", "Fedora Project", "Shop", "") == [False, False, True, True]
    assert of("rpm", "Red Hat, Inc.", "Fedora Project") == [False, False]  # EPEL
    assert of("rpm", "Mine", "Mine", "Shop", "", None) == [False, False, True, True, False]
    assert of("rpm", "", "") == [True, True]


def test_what_is_missing_everywhere_tells_nothing() -> None:
    commit = "f93af038c3de7146121c2ea8124ba5ce29b4b058"
    assert of("apk", commit, commit, "", commit + "-dirty") == [False, False, True, True]
    assert of("apk", "", "", commit) == [False, False, False]
    assert of("alpm", "pgp", "pgp", "none") == [False, False, True]
    assert of("alpm", "none", "none") == [False, False]


def test_others_are_not_judged() -> None:
    assert of("portage", "x", None) == [False, False]
    assert of("deb", None, None) == [False, False]
