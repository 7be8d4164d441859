"""Packages that a consumer of a document could not tell apart.

Consumers compare type, namespace, name and version of a purl, some of them in lower case and with
``_`` as ``-``, and take a document's purl without a qualifier for one with it (go-vex's
``PurlMatches``, packageurl-go's ``typeAdjustName``). So what is ruled out for one package is ruled
out for its twin in another directory, of another architecture, or of another epoch. A twin too many
costs a statement; one too few makes a wrong one.

Another scanner, or a newer release of ours, may know more of a file than Syft did: a version where
Syft has none, or by the hash of a jar its group in the index of Maven, at which Syft guesses where
the jar has no coordinates. So a package without a version is a twin of all versions, and those of
Java are told apart by artifact and version alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from vexstream.purl import parts
from vexstream.scan import Package

_SEPARATORS = re.compile(r"[-_.]+")
_EPOCH_OR_V = re.compile(r"\A(?:\d+:)?(?:v|go)?(?=\d)")
_NO_VERSION = frozenset(["", "(devel)", "unknown"])


def twins(packages: Iterable[Package]) -> Mapping[str, tuple[Package, ...]]:
    """Package id -> the others; packages without any are left out."""
    names: dict[str, dict[str, list[Package]]] = defaultdict(lambda: defaultdict(list))
    for package in packages:
        if package.purl:
            name, version = alike(package.purl)
            names[_without_group(name)]["" if version in _NO_VERSION else version].append(package)
    return {
        package.id: tuple(other for other in group if other is not package)
        for versions in names.values()
        for package, group in _grouped(versions)
        if len(group) > 1
    }


def _grouped(versions: Mapping[str, list[Package]]) -> Iterator[tuple[Package, list[Package]]]:
    """Each package of one name, and those of its version."""
    of_any = versions.get("", [])
    for version, group in versions.items():
        if version:
            whole = group + of_any
        else:
            whole = [package for those in versions.values() for package in those]
        yield from ((package, whole) for package in group)


def _without_group(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"{kind}/{rest.rpartition('/')[2]}" if kind == "pkg:maven" else name


def alike(purl: str) -> tuple[str, str]:
    """The same for purls that a consumer may take for each other."""
    one = parts(purl)
    name = _SEPARATORS.sub("-", one.path.lower())
    return name, _EPOCH_OR_V.sub("", one.version.lower())
