"""Packages of npm, Composer, Ruby and R that came from one's own sources and not from an index.

What is installed from an archive, a directory or a repository is one's own, mostly, and so are the
bundles in it. It is told by what installers leave:

| who | what |
|---|---|
| npm | ``resolved`` in ``node_modules/.package-lock.json`` is no address of a registry's form |
| npm up to 6 | ``_requested`` in its package.json (vexstream/npm_places.py) |
| Yarn 1 | the pattern in ``node_modules/.yarn-integrity`` has such a place after the name |
| Yarn 2 and later | the locator in ``node_modules/.yarn-state.yml`` has, or the directory in ``.store`` |
| pnpm, Bun | the directory in ``node_modules/.pnpm`` or ``.bun`` has such a place and not a version |
| pnpm without such | ``hoistedLocations`` in ``node_modules/.modules.yaml`` has |
| Bun | ``.bun-tag`` in its directory, but for what was a directory |
| all of them | whoever needs it names such a place in its package.json: then all packages of that name |
| all of them | package.json has ``private``, which no client publishes |
| Composer | ``vendor/composer/installed.json`` names a directory, or a repository without the ``notification-url`` that Packagist gives |
| RubyGems | ``allowed_push_host`` in its gemspec is another than rubygems.org: ``gem push`` sends it there alone |
| R | DESCRIPTION has no ``Repository``, which CRAN, r-universe and newer Bioconductors write in it |

Bundler leaves gems from git in ``bundler/gems`` and those of a path where they are: as packages nobody
knows of them, so they are the application's.
One too many is compared with packages for nothing; one too few may hold what passes for unused.
"""  # noqa: E501

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from vexstream.imagefiles import Image, spell_all
from vexstream.npm_places import NAME, is_elsewhere
from vexstream.sbom import Artifact

RECORDS = (
    rb"/(?:.*/)?node_modules/"
    rb"\.(?:package-lock\.json|yarn-integrity|yarn-state\.yml|modules\.yaml)\Z"
)
MAX_RECORD_BYTES = 16 << 20
"""Of a larger one nothing is taken; that of 10,000 packages has 5 MiB."""
GEMSPECS = rb"/(?:.*/)?specifications/[^/]+\.gemspec\Z"
_PUSHED_ELSEWHERE = re.compile(
    rb'"allowed_push_host"(?:\.freeze)?\s*=>\s*"(?!https?://rubygems\.org/?")'
)
_GEM = re.compile(rb"(.*)/specifications/([^/]+)\.gemspec\Z", re.DOTALL)
_DESCRIPTION = b"/DESCRIPTION"
_INSTALLED = b"/composer/installed.json"
_MODULES = b"/node_modules/"
_TAG = b"/.bun-tag"
_INTEGRITY = b".yarn-integrity"
_STORED = rb"/node_modules/\.store/[^/]+"
_PACKAGE = re.compile(
    rb".*(?:/node_modules/(?:@[^/]+/)?[^/.@][^/]*|" + _STORED + rb"/package)\Z", re.DOTALL
)
"""Not a directory within a package, of which many have a package.json with ``private``."""
_IN_STORE = re.compile(
    rb".*/(?:(?:@[^/@+]+\+)?[^/@+]+@(?:file\+|git|https?\+)|file\+"
    rb"|(?:github\.com|gitlab\.com|bitbucket\.org)\+)[^/]*/node_modules/(?:@[^/]+/)?[^/]+\Z"
    rb"|.*" + _STORED + rb"-(?:file|git|https?|ssh|exec)-[0-9a-f]+/package\Z",
    re.DOTALL,
)
_SOURCE = re.compile(r"file:|git|(?:https?:|ssh:)(?!.*/-/|//npm\.(?:pkg\.github\.com|jsr\.io)/)")
"""What registries serve has ``/-/`` in its address, but for GitHub's and JSR's."""
_LOCATOR = re.compile(r'"@?[^@"]+@(?:virtual:[^#"]*#)?(?:file:|git|https?:|ssh:|exec:)')
_LOCATION = re.compile(r'\s+- "([^"]*)"')
_KEY = re.compile(r"  (?:\? )?([^\s-].*?):?\s*\Z")
_PLACE = re.compile(r"\s+(?::\s+)?- (.*?)\s*\Z")
_VERSION = re.compile(r"/?(?:@[^/]+/)?[^/@]+[@/]\d+\.")


def homes(artifacts: Sequence[Artifact], image: Image) -> frozenset[bytes]:
    """The canonical directories of such packages."""
    found: set[bytes] = set()
    names: set[bytes] = set()
    for record, text in _records(image):
        top, _, kind = record.rpartition(_MODULES)
        if kind == _INTEGRITY:
            names.update(_utf8(name) for name in _yarn_1(text))
        else:
            found.update(top + b"/" + _utf8(place) for place in _READERS[kind](text))
    for manifest, places in image.npm_places.items():
        names.update(places.elsewhere)
        if places.own:
            found.add(manifest.removesuffix(NAME))
    for artifact in artifacts:
        if artifact.type == "npm":
            named = _utf8(artifact.name) in names
            for manifest in spell_all(image, artifact.locations):
                home = manifest.removesuffix(NAME)
                if home != manifest and (artifact.unpublished or named):
                    found.add(home)
    found.update(_marked(image, names))
    real = filter(None, map(image.root.realpath, found))
    others = (_composer, _gems, _of_r)
    return frozenset(home for home in real if _PACKAGE.match(home)).union(
        *(filter(None, map(image.root.realpath, which(artifacts, image))) for which in others)
    )


def _records(image: Image) -> Iterator[tuple[bytes, str]]:
    for record, content in image.contents.items():
        kind = record.rpartition(_MODULES)[2]
        if len(content) <= MAX_RECORD_BYTES and (kind in _READERS or kind == _INTEGRITY):
            yield record, content.decode("utf-8", "replace")


def _marked(image: Image, names: Set[bytes]) -> Iterator[bytes]:
    """Directories that tell by themselves, or are called like this: also of packages without a
    version, of which Syft says nothing."""
    for path in image.root.files_under(b"/"):
        if path.endswith(_TAG):
            yield path.removesuffix(_TAG)
        elif path.endswith(NAME):
            home = path.removesuffix(NAME)
            if home.rpartition(_MODULES)[2] in names or _IN_STORE.match(home):
                yield home


def _composer(artifacts: Iterable[Artifact], image: Image) -> Iterator[bytes]:
    for artifact in artifacts:
        if artifact.type == "php-composer" and artifact.unpublished and artifact.name:
            for place in spell_all(image, artifact.locations):
                if place.endswith(_INSTALLED):
                    yield place.removesuffix(_INSTALLED) + b"/" + _utf8(artifact.name)


def _gems(artifacts: Iterable[Artifact], image: Image) -> Iterator[bytes]:
    for artifact in artifacts:
        for place in spell_all(image, artifact.locations) if artifact.type == "gem" else ():
            match = _GEM.match(place)
            if match and _PUSHED_ELSEWHERE.search(image.contents.get(place, b"")):
                yield match[1] + b"/gems/" + match[2]


def _of_r(artifacts: Iterable[Artifact], image: Image) -> Iterator[bytes]:
    for artifact in artifacts:
        if artifact.type == "R-package" and artifact.unpublished:
            for place in spell_all(image, artifact.locations):
                if place.endswith(_DESCRIPTION):
                    yield place.removesuffix(_DESCRIPTION)


def _npm(text: str) -> Iterator[str]:
    for place, package in _mapping(text, "packages").items():
        resolved = package.get("resolved") if isinstance(package, dict) else None
        if isinstance(resolved, str) and _SOURCE.match(resolved):
            yield place


def _yarn_1(text: str) -> Iterator[str]:
    """Names alone: where packages lie is not noted, unless it is at the top."""
    for pattern in _mapping(text, "lockfileEntries"):
        name, at, place = pattern[1:].partition("@")
        if at and is_elsewhere(place):
            yield pattern[:1] + name


def _yarn(text: str) -> Iterator[str]:
    own = False
    for line in text.splitlines():
        if line.startswith('"'):
            own = _LOCATOR.match(line) is not None
        elif own and (match := _LOCATION.match(line)):
            yield match[1]


def _pnpm(text: str) -> Iterator[str]:
    """Written as JSON since pnpm 10, as YAML before."""
    for key, locations in _mapping(text, "hoistedLocations").items():
        if not _VERSION.match(key) and isinstance(locations, list):
            yield from (place for place in locations if isinstance(place, str))
    within = own = False
    for line in text.splitlines():
        if not line.startswith(" "):
            within = line.startswith("hoistedLocations:")
        elif match := _KEY.match(line):
            own = within and not _VERSION.match(match[1].strip("'\""))
        elif own and (match := _PLACE.match(line)):
            yield match[1].strip("'\"")


def _mapping(text: str, key: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = document.get(key) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


_READERS = {b".package-lock.json": _npm, b".yarn-state.yml": _yarn, b".modules.yaml": _pnpm}
