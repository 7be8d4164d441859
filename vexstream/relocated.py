"""Code that runs from a copy beside the image: told by the end of its path.

Entrypoints copy applications to a volume at the first start (``/usr/src/nextcloud`` to
``/var/www/html``), and runtimes fill a volume with what the image has in its place. Who made the
copy was perhaps never observed, and later containers read nothing but the copy. The name of a file
is no proof, so this errs on the side of use.
"""

import posixpath
import re
from collections.abc import Iterator

from vexstream.filekinds import Kind, is_shared_classes, kind, owner_path

_PLACES = re.compile(
    rb".*/(?:site-packages|dist-packages|node_modules|nodejs|vendor|gems)/(?=[^/]+/|[^/]+\.py\Z)",
    re.DOTALL,
)
"""Directories in which packages lie side by side; what is below them is the same everywhere."""
_NAMES = 4
_ALONE = re.compile(
    rb".*\.(?:[jwesnp]ar|kar|lpkg|[jh]pi|node|dll)\Z|.*\.so(?:\.[0-9.]+)?\Z|[^.]+\Z", re.DOTALL
)
"""Names that tell a file by themselves: archives, libraries, programs."""
_INTERPRETER = re.compile(
    rb"(python|pypy|perl|ruby|php(?:-fpm|-cgi)?|lua|tclsh|guile|node)(\d+(?:\.\d+)*)?\Z"
)
"""Those that have their version in their name, of which ``venv --copies`` leaves a part."""


_COMPILED = re.compile(rb"\.[a-z]+-?\d+(?:-[^/]+)?(?:\.opt-\w+)?\.pyc\Z|(?<=\.php)\.bin\Z")
"""Bytecode in a tree of its own (PYTHONPYCACHEPREFIX, opcache.file_cache)."""


_VOLUME = re.compile(
    rb".*?/(?:pods/[0-9a-f-]+/volume(?:s/[^/]+/[^/]+|-subpaths/[^/]+/[^/]+/\d+)"
    rb"|volumes/[^/]+(?:/_data)?)(?=/)",
    re.DOTALL,
)
"""The kubelet's, containerd's, Docker's and Podman's, whose random names come with every pod."""


def within_volume(path: bytes) -> bytes:
    """A file's path in its volume, out of that on the node's file system."""
    match = _VOLUME.match(path)
    return path[match.end() :] if match else path


_NATIVE = re.compile(
    rb".*\.(?:ko|a|dylib|exe|elf|node)\Z|.*\.so(?:\.[0-9.]+)?\Z|[^.]+\Z", re.DOTALL
)


def is_code(path: bytes, *, run: bool) -> bool:
    """Whether the use of such a copy means anything.

    Data on volumes is everybody's, and native code has to run: an agent that looks through the
    node's files uses none of them.
    """
    source = _source(path)
    native = _NATIVE.match(posixpath.basename(source))
    return run or (kind(source) is Kind.CODE and native is None) or is_shared_classes(path)


def is_script(path: bytes) -> bool:
    """Whether a file is code that an interpreter reads, which one without a suffix may be."""
    return is_code(path, run=False) or b"." not in posixpath.basename(path)


def tails(path: bytes) -> Iterator[bytes]:
    """By what a file and its copy elsewhere are alike; any one of them will do.

    A short path may be that in a volume which is itself a directory of packages, as Compose files
    have ``/app/node_modules``.
    """
    path = _source(path)
    name = posixpath.basename(path)
    if _ALONE.match(name):
        yield name
        return
    names = path.split(b"/")[1:]
    if len(names) >= _NAMES:
        yield b"/".join(names[-_NAMES:])
    place = _PLACES.match(path)
    if place:
        yield b"//" + path[place.end() :]
    elif len(names) < _NAMES:
        yield b"/" + path


def interpreter(path: bytes) -> Iterator[bytes]:
    """By what an interpreter is alike under the names that one of its version may have
    (``python3.11``: ``python3`` and ``python``); nothing of another file."""
    for number, name in enumerate(_names(path)):
        yield (b"<" if number else b"=") + name


def interpreter_like(path: bytes) -> Iterator[bytes]:
    """By what one that was run is alike with ``interpreter`` of an owned one."""
    for number, name in enumerate(_names(path)):
        yield b"=" + name
        if number == 0:
            yield b"<" + name


def _names(path: bytes) -> list[bytes]:
    """Its own, then those of less and less of the version."""
    match = _INTERPRETER.match(posixpath.basename(path))
    if match is None:
        return []
    numbers = match[2].split(b".") if match[2] else []
    return [match[1] + b".".join(numbers[:length]) for length in range(len(numbers), -1, -1)]


def _source(path: bytes) -> bytes:
    path = owner_path(path)
    match = _COMPILED.search(path)
    return path[: match.start()] + (b".py" if path.endswith(b"c") else b"") if match else path
