"""Whether the distribution built a package of the operating system, by what its database says.

| packages | the distribution's has |
|---|---|
| deb | a maintainer with an address of Debian, of Ubuntu or of the domain that os-release names, or one of those that Debian's maintainers have elsewhere (vexstream/maintainers.py) |
| rpm | a known distribution's vendor; where there is none in the image, that of most packages |
| apk | the commit of its recipe, which abuild and melange note in a clean repository |
| alpm | a signature that pacman has checked, as it does for repositories and not for files |

What all others of the image lack as well tells nothing. Who made it may have written anything.
"""  # noqa: E501

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from vexstream.maintainers import is_known

ADDRESS = re.compile(r"[^<>]*<\s*([^<>@\s]+@([^<>@\s]+))\s*>")
DOMAINS = ("debian.org", "debian.net", "ubuntu.com", "canonical.com")
_VENDORS = re.compile(
    r"(?i)(?:fedora|red ?hat|centos|rocky|almalinux|cloudlinux|oracle america|amazon|suse|opensuse"
    r"|microsoft corporation|vmware|mageia|openeuler|http://openeuler|openanolis|tencent|alt linux)"
)
_SHARED = re.compile(
    r"(?:git(?:hub|lab)|sourceforge|bitbucket|codeberg|launchpad|google|gmail|proton|amazonaws"
    r"|azure|netlify|readthedocs|herokuapp|pages)\.[a-z.]+\Z|[^.]*\Z|.*\d\Z"
)
"""Where everybody may have a page or an address, and what is no domain."""
_SUFFIX = re.compile(r"(?:ac|co|com?|edu|gov|gob|go|ne|net|or|org)\.[a-z]{2}\Z")
"""Domains of countries in which others are registered: ``org.uk``."""
_HOST = re.compile(r"[a-z]+://(?:[^/@]*@)?([^/:]+)")
_DIRTY = "-dirty"


def foreign(kind: str, makers: Sequence[str | None], sites: Iterable[str]) -> list[bool]:
    """Of which packages of one kind somebody else says to be the maker; None is not known.

    ``makers``: the maintainers of debs, the vendors of rpms, the commits of apks, how pacman has
    checked; ``sites``: the addresses that os-release gives.
    """
    known = [maker for maker in makers if maker is not None]
    if kind not in _RULES or not known:
        return [False] * len(makers)
    ours = _RULES[kind](known, sites)
    return [maker is not None and not ours(maker) for maker in makers]


def _deb(makers: Sequence[str], sites: Iterable[str]) -> Callable[[str], bool]:
    del makers
    hosts = [match[1].lower() for match in map(_HOST.match, sites) if match]
    domains = (*DOMAINS, *filter(None, map(_domain, hosts)))

    def is_ours(maker: str) -> bool:
        address = ADDRESS.match(maker)
        if address is None:
            return False
        host = "." + address[2].lower()
        return any(host.endswith("." + domain) for domain in domains) or is_known(address[1])

    return is_ours


def _domain(host: str) -> str:
    """The registered domain of a host that is its owner's alone, "" when there is none."""
    names = host.strip(".").split(".")
    two = ".".join(names[-2:])
    found = ".".join(names[-3:]) if _SUFFIX.match(two) else two
    return "" if _SHARED.match(found) or _SUFFIX.match(found) else found


def _rpm(makers: Sequence[str], sites: Iterable[str]) -> Callable[[str], bool]:
    del sites
    if any(map(_VENDORS.match, makers)):
        return lambda maker: _VENDORS.match(maker) is not None
    most = Counter(filter(None, makers)).most_common(1)
    return lambda maker: bool(maker) and maker == most[0][0]


def _apk(makers: Sequence[str], sites: Iterable[str]) -> Callable[[str], bool]:
    del sites
    return _where_most(makers, lambda maker: bool(maker) and not maker.endswith(_DIRTY))


def _alpm(makers: Sequence[str], sites: Iterable[str]) -> Callable[[str], bool]:
    del sites
    return _where_most(makers, lambda maker: "pgp" in maker)


def _where_most(makers: Sequence[str], ours: Callable[[str], bool]) -> Callable[[str], bool]:
    return ours if 2 * sum(map(ours, makers)) >= len(makers) else lambda _: True


_RULES: Mapping[str, Callable[[Sequence[str], Iterable[str]], Callable[[str], bool]]] = {
    "deb": _deb, "rpm": _rpm, "apk": _apk, "alpm": _alpm,
}  # fmt: skip
