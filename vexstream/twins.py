"""Packages that a consumer of a document could not tell apart.

Consumers compare type, namespace, name and version of a purl, some of them in lower case and with
``_`` as ``-``, and take a document's purl without a qualifier for one with it (go-vex's
``PurlMatches``, packageurl-go's ``typeAdjustName``). So what is ruled out for one package is ruled
out for its twin in another directory, of another architecture, or of another epoch. A twin too many
costs a statement; one too few makes a wrong one.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from vexstream.purl import parts
from vexstream.scan import Package

_SEPARATORS = re.compile(r"[-_.]+")
_EPOCH_OR_V = re.compile(r"\A(?:\d+:)?(?:v|go)?(?=\d)")


def twins(packages: Iterable[Package]) -> Mapping[str, tuple[Package, ...]]:
    """Package id -> the others; packages without any are left out."""
    groups: dict[tuple[str, str], list[Package]] = defaultdict(list)
    for package in packages:
        if package.purl:
            groups[alike(package.purl)].append(package)
    return {
        package.id: tuple(other for other in group if other is not package)
        for group in groups.values()
        if len(group) > 1
        for package in group
    }


def alike(purl: str) -> tuple[str, str]:
    """The same for purls that a consumer may take for each other."""
    one = parts(purl)
    name = _SEPARATORS.sub("-", one.path.lower())
    return name, _EPOCH_OR_V.sub("", one.version.lower())
