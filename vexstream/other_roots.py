"""Packages of a root file system that lies in a directory of the image.

An image may bring whole root file systems of others: of a ``chroot`` or a sandbox, a container in
the container, a micro virtual machine. Syft finds their package databases wherever they lie; what
is in them is relative to the root to which they belong.
"""

import re

from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Claim, Image, spell_all
from vexstream.sbom import Artifact

_DATABASE = re.compile(
    r"(.*?)/(?:var/lib/dpkg|(?:usr/)?lib/apk/db|(?:var/lib|usr/share|usr/lib/sysimage)/rpm"
    r"|var/lib/pacman/local|var/db/pkg)/",
    re.DOTALL,
)
_NOT_ALL = "not all that it installed below {home} is there under its name"
_NO_LIST = "dpkg has no list of this package's files below {home}"


def home_of(artifact: Artifact) -> str:
    """The directory to which the package's database belongs; empty when it is the root.

    One of the names of the database is enough: ``/var/lib/rpm`` may be a symlink.
    """
    homes = [match[1] for match in map(_DATABASE.match, artifact.locations) if match]
    return min(homes, key=len, default="")


def claim_below(artifact: Artifact, image: Image, home: str, names: list[str]) -> Claim:
    """The package's files below its own root; what a symlink leads out of there is not its own."""
    top = image.root.realpath(home.encode("utf-8", "replace")) or b"/"
    paths, whole = [], True
    for path in spell_all(image, (home + name for name in names)):
        there = image.root.file_at(path)
        within = there is not None and there.path.startswith(top.rstrip(b"/") + b"/")
        if within or there is None:
            paths.append(path)
        whole &= within or kind(path) is not Kind.CODE
    incomplete = None if whole else _NOT_ALL.format(home=home)
    if artifact.type == "deb" and not any(p.endswith(".md5sums") for p in artifact.locations):
        incomplete = _NO_LIST.format(home=home)
    return Claim(paths, incomplete)
