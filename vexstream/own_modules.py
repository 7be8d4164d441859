"""Packages of npm and Composer that came from one's own sources and not from an index.

What is installed from an archive, a directory or a repository is one's own, mostly, and so are the
bundles in it. It is told by what installers leave:

| who | what |
|---|---|
| npm | ``resolved`` in ``node_modules/.package-lock.json`` begins with ``file:`` or ``git`` |
| Yarn 1 | the pattern in ``node_modules/.yarn-integrity`` has such a place after the name |
| Yarn 2 and later | the locator in ``node_modules/.yarn-state.yml`` has |
| pnpm | the directory in ``node_modules/.pnpm`` has such a place and not a version |
| all of them | package.json has ``private``, which no client publishes |
| Composer | ``vendor/composer/installed.json`` names a directory, or a repository without the ``notification-url`` that Packagist gives |

Registries have addresses of any form, so ``https:`` tells nothing in what npm notes.
"""  # noqa: E501

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from vexstream.imagefiles import Image, spell_all
from vexstream.sbom import Artifact

RECORDS = rb"/(?:.*/)?node_modules/\.(?:package-lock\.json|yarn-integrity|yarn-state\.yml)\Z"
MAX_RECORD_BYTES = 16 << 20
"""Of a larger one nothing is taken; that of 10,000 packages has 5 MiB."""
_INSTALLED = b"/composer/installed.json"
_MODULES = b"/node_modules/"
_PACKAGE = re.compile(rb".*/node_modules/(?:@[^/]+/)?[^/.@][^/]*\Z", re.DOTALL)
"""Not a directory within a package, of which many have a package.json with ``private``."""
_OF_PNPM = re.compile(
    rb".*/node_modules/\.pnpm/(?:(?:@[^/@+]+\+)?[^/@+]+@(?:file\+|git|https?\+)|file\+"
    rb"|(?:github\.com|gitlab\.com|bitbucket\.org)\+)[^/]*/node_modules/(?:@[^/]+/)?[^/]+\Z",
    re.DOTALL,
)
_SOURCE = re.compile(r"file:|git")
_PATTERN = re.compile(r"(@?[^@/]+(?:/[^@/]+)?)@(?:file:|git|https?:|ssh:|[^@/:]+/[^@/:]+\Z)")
_LOCATOR = re.compile(r'"@?[^@"]+@(?:virtual:[^#"]*#)?(?:file:|git|https?:|ssh:|exec:)')
_LOCATION = re.compile(r'\s+- "([^"]*)"')


def homes(artifacts: Sequence[Artifact], image: Image) -> frozenset[bytes]:
    """The canonical directories of such packages."""
    found: set[bytes] = set()
    for record, content in image.contents.items():
        top, within, name = record.rpartition(_MODULES)
        if within and len(content) <= MAX_RECORD_BYTES and name in _READERS:
            text = content.decode("utf-8", "replace")
            found.update(top + b"/" + place.encode("utf-8", "replace")
                         for place in _READERS[name](text))  # fmt: skip
    for artifact in artifacts:
        if artifact.type == "npm":
            for manifest in spell_all(image, artifact.locations):
                home, _, name = manifest.rpartition(b"/")
                if name == b"package.json" and (artifact.unpublished or _OF_PNPM.match(home)):
                    found.add(home)
    real = filter(None, map(image.root.realpath, found))
    return frozenset(home for home in real if _PACKAGE.match(home)) | _composer(artifacts, image)


def _composer(artifacts: Iterable[Artifact], image: Image) -> Set[bytes]:
    found = {
        place.removesuffix(_INSTALLED) + b"/" + artifact.name.encode("utf-8", "replace")
        for artifact in artifacts
        if artifact.type == "php-composer" and artifact.unpublished and artifact.name
        for place in spell_all(image, artifact.locations)
        if place.endswith(_INSTALLED)
    }
    return frozenset(filter(None, map(image.root.realpath, found)))


def _npm(text: str) -> Iterator[str]:
    for place, package in _mapping(text, "packages").items():
        resolved = package.get("resolved") if isinstance(package, dict) else None
        if isinstance(resolved, str) and _SOURCE.match(resolved):
            yield place


def _yarn_1(text: str) -> Iterator[str]:
    """Only of packages at the top: where others lie is not noted."""
    for pattern in _mapping(text, "lockfileEntries"):
        if match := _PATTERN.match(pattern):
            yield f"node_modules/{match[1]}"


def _yarn(text: str) -> Iterator[str]:
    own = False
    for line in text.splitlines():
        if line.startswith('"'):
            own = _LOCATOR.match(line) is not None
        elif own and (match := _LOCATION.match(line)):
            yield match[1]


def _mapping(text: str, key: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = document.get(key) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


_READERS = {b".package-lock.json": _npm, b".yarn-integrity": _yarn_1, b".yarn-state.yml": _yarn}
