"""The scripts that are compared: an image's own, and those of packages that may be in them.

Whatever a package is installed by, its scripts may be put into a bundle: npm's, those that a
distribution has in the place of these (``libjs-jquery``), and those that gems, wheels and others
bring along (jquery-rails, Django), which often are copies of an npm package's. So the names of the
latter do not tell in how many packages something is.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from vexstream import scripts
from vexstream.claims import OS_TYPES
from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Image
from vexstream.npm_manifests import NAME
from vexstream.own import is_installed_from_sources
from vexstream.scan import Package

MAX_NAMES = 3
"""Of packages; what more have tells of none."""
_SOURCES = (b".coffee", b".es6", b".js.erb", b".jsx", b".ts", b".mts", b".cts", b".tsx", b".vue",
            b".svelte")  # fmt: skip
"""What becomes a script when it is bundled. An npm package has the script itself as well."""
_OF_NPM = (*scripts.SUFFIXES, NAME)
WANTED = (*_OF_NPM, *_SOURCES)
"""How the files end that are read of packages."""
_PLACE = re.compile(rb"/node_modules/((?:@[^/]+/)?[^/]+)/package\.json\Z")
_HOMES = (b"/node_modules/", b"/nodejs/", b"/usr/share/javascript/")
_PREFIX = re.compile(r"(?:libjs|node)-")
_DOCUMENTATION = re.compile(rb"/usr/share/(?:doc|gtk-doc|help)/")
"""No program may need what lies there (Debian's policy, 12.3)."""
_WITHIN = re.compile(
    rb"(?:.*/node_modules/|.*/(?:nodejs|javascript|site-packages|dist-packages|gems|vendor)/"
    rb"|/usr/(?:share|lib)/)(?P<inner>.*)\Z",
    re.DOTALL,
)
_ASIDE = re.compile(
    rb".*/(?:tests?|__tests__|spec|examples?|docs?|bench(?:marks?)?|fixtures?|perf)/"
    rb"|.*[._-](?:test|spec)\.[cm]?js\Z"
    rb"|.*/(?:test|Gruntfile|gulpfile|karma\.conf|benchmark)\.[cm]?js\Z",
    re.DOTALL,
)
_TYPES = re.compile(rb".*\.d\.[cm]?ts\Z", re.DOTALL)
"""Declarations, of which nothing is left in a bundle."""


def owners(packages: Sequence[Package]) -> Mapping[bytes, list[int]]:
    """Scripts of packages, and package.json -> whose they are."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        for path in package.files:
            if path.endswith(WANTED) and _is_brought(package, path):
                found[path].append(number)
    return found


def own_scripts(
    packages: Iterable[Package], image: Image, distributed: Set[bytes]
) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
    """Those of no package but the application, or one that was made at home or installed from
    sources (vexstream/own.py), as ``Image.scripts``."""
    owned = {
        path
        for package in packages
        if package.type not in OS_TYPES
        and (package.type != "npm" or is_installed(package))
        and not is_installed_from_sources(package.type, package.files, image)
        for path in package.files
    }
    return {
        path: place
        for path, place in image.scripts.items()
        if path not in owned and path not in distributed
    }


def from_sources(packages: Iterable[Package], image: Image) -> Set[bytes]:
    """What came with packages that were installed from sources: one's own scripts, which may be
    another's as well and be put into a bundle like any (``pip install wheels/*.whl``)."""
    return {
        path
        for package in packages
        if is_installed_from_sources(package.type, package.files, image)
        for path in package.files
    }


def is_installed(package: Package) -> bool:
    """Whether an npm package lies where packages are installed; the application does not."""
    manifests = [path for path in package.files if path.endswith(b"/package.json")]
    return _is_at_home(min(manifests, key=len, default=b""))


def is_bundled(package: Package) -> bool:
    """An npm package that is installed, with something to put into a bundle."""
    return (
        package.type == "npm"
        and is_installed(package)
        and any(kind(path) is Kind.CODE and not _TYPES.match(path) for path in package.files)
    )


def is_aside(path: bytes) -> bool:
    """Whether nobody loads a script from its package: it does not tell how well that would show."""
    within = _WITHIN.match(path)
    return within is not None and _ASIDE.match(within["inner"]) is not None


def of_scripts(packages: Sequence[Package]) -> Set[int]:
    """The npm packages, and those of a distribution that have scripts where npm packages lie."""
    return {
        number
        for number, package in enumerate(packages)
        if package.type == "npm"
        or (package.type in OS_TYPES and any(map(_is_script, package.files)))
    }


def bare_name(package: Package) -> str:
    """That of the npm package for which one of Debian's stands (``node-lodash``)."""
    return _PREFIX.sub("", package.name, count=1) if package.type in OS_TYPES else package.name


def installed_names(package: Package) -> Set[bytes]:
    """Those by which comments name a package: an npm package's, and those under which it is
    installed (``npm:`` in dependencies)."""
    name = bare_name(package).encode("utf-8", "replace")
    if package.type != "npm":
        return {name}
    places = (_PLACE.search(path) for path in package.files if path.endswith(NAME))
    return {name, *(at[1] for at in places if at)}


def few(names: Iterable[str]) -> bool:
    """Whether what is in packages of these names tells of them."""
    return len(set(names)) <= MAX_NAMES


def _is_brought(package: Package, path: bytes) -> bool:
    """Whether a script came with the package; the application's did not."""
    if _is_at_home(path):
        return path.endswith(_OF_NPM)
    return not (package.type == "npm" or _DOCUMENTATION.match(path) or _TYPES.match(path))


def _is_script(path: bytes) -> bool:
    return path.endswith(scripts.SUFFIXES) and _is_at_home(path)


def _is_at_home(path: bytes) -> bool:
    return any(home in path for home in _HOMES)
