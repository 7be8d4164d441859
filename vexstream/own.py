"""Programs that were not built by a distribution: linked, perhaps, with what is in the image.

What a distribution packaged was linked when it was built there, and its advisories name it by
itself. Its packages own neither

1. what lies where the FHS and Debian's policy let nobody's packages put files: ``/usr/local``,
   ``/srv``, ``/home``, ``/root``, ``/app`` (not ``/opt``: that is for vendors, who build elsewhere
   as well); nor
2. the files of a package that somebody else says to have built (vexstream/distribution.py); nor
3. those of a deb that brings no ``/usr/share/doc/<name>/copyright``, nor a symlink in that
   place (Debian's policy, 12.5): checkinstall, fpm and ``dpkg-deb`` make such.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from vexstream.claims import OS_TYPES
from vexstream.imagefiles import Image, Native
from vexstream.recognition import Form
from vexstream.sbom import Artifact
from vexstream.scan import Package

Programs = Mapping[bytes, Mapping[bytes, Native]]

_DIRECT = b".dist-info/direct_url.json"
_BY_SETUP = re.compile(rb".*\.egg(?:/|-info/)", re.DOTALL)
"""What ``setup.py`` makes, be it called by itself or by pip, which leaves ``.egg-info`` in the
sources; an index has wheels, or sources of which a pip without ``wheel`` makes the same."""
_MANIFESTS = {"npm": b"/package.json", "php-composer": b"/composer.json",
              "R-package": b"/DESCRIPTION"}  # fmt: skip
_IN_GEMS = re.compile(rb"/gems(?=(/[^/]+)/)")
_LOCAL = re.compile(rb"/(?:usr/local|srv|home|root|app)/")


def distributed_files(
    artifacts: Sequence[Artifact], packages: Sequence[Package], image: Image
) -> Set[bytes]:
    """The files of all packages that a distribution built."""
    return set().union(
        *(
            distributed_part(artifact, package.files, image)
            for artifact, package in zip(artifacts, packages, strict=True)
        )
    )


def distributed_part(artifact: Artifact, files: Iterable[bytes], image: Image) -> Set[bytes]:
    """Those of a package's files that a distribution built."""
    if artifact.type not in OS_TYPES or _is_home_made(artifact, image):
        return frozenset()
    return {path for path in files if not _LOCAL.match(path)}


def is_installed_from_sources(package_type: str, files: Iterable[bytes], image: Image) -> bool:
    """Whether one of Python (PEP 610), or one of those of vexstream/own_modules.py, came from a
    directory, a repository or a file and not from an index: one's own, mostly."""
    manifest = _MANIFESTS.get(package_type)
    if manifest and image.own_homes:
        ends = (path.removesuffix(manifest) for path in files if path.endswith(manifest))
        return not image.own_homes.isdisjoint(ends)
    if package_type == "gem" and image.own_homes:
        return any(not image.own_homes.isdisjoint(_gem_homes(path)) for path in files)
    return package_type == "python" and any(
        path.endswith(_DIRECT) or _BY_SETUP.match(path) for path in files
    )


def _gem_homes(path: bytes) -> Iterator[bytes]:
    """What may be the directory of the gem; one need not have a gemspec in it."""
    for match in _IN_GEMS.finditer(path):
        yield path[: match.end(1)]


def own_programs(image: Image, distributed: Set[bytes]) -> Programs:
    """The programs and libraries that are in none of those packages."""
    return {
        path: natives
        for path, natives in image.natives.items()
        if path not in distributed and any(n.form is Form.PROGRAM for n in natives.values())
    }


def _is_home_made(artifact: Artifact, image: Image) -> bool:
    if artifact.foreign or artifact.type != "deb":
        return artifact.foreign
    listed = image.dpkg.files_of(artifact.name, artifact.architecture)
    if listed is None:
        return False
    folder = b"/usr/share/doc/" + artifact.name.encode("utf-8", "replace")
    below = [path for path in listed if path.startswith(folder + b"/")]
    return folder + b"/copyright" not in below and bool(below or folder not in listed)
