"""Which classes an archive or a folder holds: their names, and what tells them by their content.

Whatever copies, minimises or relocates classes (maven-shade, ProGuard without renaming, jlink)
rewrites what is in them and keeps the last part of their names, and mostly all of it. Kotlin,
Scala, Groovy and Clojure make the same. What else they keep is in vexstream/classfile.py. Of a
runtime image the names alone are read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vexstream import jimage, zips
from vexstream.classfile import Traits, traits

MAX_CLASSES = 750_000
"""Of all archives of an image, nested classes aside."""
MAX_CLASS_BYTES = 16 << 20
"""One class; the JVM's own limits keep it below."""
MAX_ALL_CLASS_BYTES = 4 << 30
MAX_MEMBERS = 5_000_000
MAX_NESTED_BYTES = 128 << 20
"""One archive in another."""
MAX_ALL_NESTED_BYTES = 4 << 30
MAX_DEPTH = 4
"""An archive in an archive in an archive."""
SUFFIXES = (b".class", b".classdata", b".esclazz", b".clj", b".cljc")
"""The second and third are what agents of Java call classes that no other loader should find."""
_NESTED = re.compile(rb".*\.(?:[jwersnk]ar|par|lpkg|[jh]pi|jmod|zip)\Z", re.IGNORECASE | re.DOTALL)
_PREFIX = re.compile(rb"(?:(?:BOOT-INF/|WEB-INF/)?classes/)?(?:META-INF/versions/\d+/)?")
_NO_CLASSES = frozenset([b"module-info", b"package-info"])
_JDK = (b"java/lang", b"Object")
"""Where this class is, the others are the JDK's own."""
_JDKS = re.compile(rb"(?:java|javax|jdk|sun|com/sun)/")
_RENAMED = re.compile(rb"[a-z][A-Za-z0-9]{0,2}\Z|[A-Za-z]{1,2}\Z")
_RENAMED_LEAST, _RENAMED_SHARE = 20, 0.25
_FIRST_NAME = b"a"
"""With which ProGuard and R8 begin in every directory; no class of 975 jars has it."""


class ClassArchive:
    """Tells from the content of a file, taken in parts, whether it may hold classes."""

    def __init__(self) -> None:
        self._head = self._before = self._last = b""

    def feed(self, part: bytes) -> None:
        """The next part of it."""
        self._head = self._head or part[:4]
        self._before, self._last = self._last, part

    def begins_with(self, magic: bytes) -> bool:
        """Whether the content begins so, with four bytes or less."""
        return self._head.startswith(magic)

    def is_one(self) -> bool:
        """Whether it is a runtime image, or ends as a zip archive does."""
        before = self._before[-zips.END_BYTES :] if len(self._last) < zips.END_BYTES else b""
        return self._head in jimage.MAGICS or zips.END in before + self._last[-zips.END_BYTES :]


class TooManyError(ValueError):
    """The image has more than is looked at."""


@dataclass(slots=True)
class Unit:
    """What one archive holds without the archives in it, or a tree of folders."""

    archive: bytes
    """The file of the image; empty for folders."""
    inner: bytes = b""
    """Where in that file, as Syft writes it: names of nested archives with colons between."""
    names: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Directory -> the classes in it, without those nested in classes."""
    shapes: dict[int, bytes] = field(default_factory=dict)
    sentences: dict[int, bytes] = field(default_factory=dict)
    """What tells classes, and a directory of one that has it."""

    def add_traits(self, path: bytes, found: Traits) -> None:
        """Takes in what is in a class."""
        directory = path.rpartition(b"/")[0]
        self.sentences |= dict.fromkeys(found.sentences, directory)
        if found.shape is not None:
            self.shapes[found.shape] = directory

    def add(self, path: bytes) -> bool:
        """Takes a class in; says whether it was new."""
        directory, _, name = path.rpartition(b"/")
        name = name.partition(b".")[0]
        name = name[:1] + name[1:].partition(b"$")[0]
        known = self.names.setdefault(directory, set())
        if name in _NO_CLASSES or name in known:
            return False
        known.add(name)
        return True

    def count(self) -> int:
        """How many classes."""
        return sum(map(len, self.names.values()))

    def digest(self) -> bytes:
        """The same for units with the same classes."""
        found = hashlib.blake2b()
        for directory, names in sorted(self.names.items()):
            found.update(b"\0".join((directory, *sorted(names), b"\0")))
        found.update(repr((sorted(self.shapes), sorted(self.sentences))).encode())
        return found.digest()

    def is_renamed(self) -> bool:
        """An obfuscator took the names away."""
        if any(_FIRST_NAME in names for names in self.names.values()):
            return True
        renamed = sum(1 for names in self.names.values() for name in names if _RENAMED.match(name))
        return renamed >= _RENAMED_LEAST and renamed >= _RENAMED_SHARE * self.count()


@dataclass(slots=True)
class Reader:
    """Reads the archives of one image, within its limits."""

    units: list[Unit] = field(default_factory=list)
    unread: dict[bytes, str] = field(default_factory=dict)
    """Archive -> why not all of its classes are known."""
    _members_left: int = field(default_factory=lambda: MAX_MEMBERS)
    _classes_left: int = field(default_factory=lambda: MAX_CLASSES)
    _nested_left: int = field(default_factory=lambda: MAX_ALL_NESTED_BYTES)
    _bytes_left: int = field(default_factory=lambda: MAX_ALL_CLASS_BYTES)

    def read(self, path: bytes, data: memoryview) -> None:
        """Takes an archive in, or what looks like one at its end."""
        try:
            if data[:4] in jimage.MAGICS:
                self._keep(self._unit(Unit(path), jimage.classes(data)))
            else:
                self._zip(path, (), data)
        except zips.NoZipError:
            return
        except (zips.ZipError, jimage.JimageError, TooManyError) as error:
            self.unread[path] = str(error)

    def folders(self, paths: Iterable[bytes]) -> Unit:
        """Takes in the classes that lie in folders of the image; what is in them can be added."""
        unit = Unit(b"")
        try:
            self._keep(self._unit(unit, (path for path in paths if path.endswith(SUFFIXES))))
        except TooManyError as error:
            self.unread[b"/"] = str(error)
        return unit

    def look_into(self, unit: Unit, path: bytes, data: memoryview) -> None:
        """Takes in what is in a class.

        Raises:
            TooManyError: the image has too much of it.
        """
        self._take(len(data))
        name = path.rpartition(b"/")[2].partition(b".")[0]
        unit.add_traits(path, traits(name, data))

    def _zip(self, path: bytes, within: tuple[bytes, ...], data: memoryview) -> None:
        unit, nested = Unit(path, b":".join(within)), []
        for member in zips.members(data):
            self._members_left -= 1
            if self._members_left < 0:
                raise TooManyError("the image's archives have too many members")
            if member.name.endswith(SUFFIXES):
                self._class(unit, _PREFIX.sub(b"", member.name, count=1), data, member)
            elif _NESTED.match(member.name):
                nested.append(member)
        self._keep(unit)
        for member in nested:
            self._within(path, within, data, member)

    def _within(
        self, path: bytes, within: tuple[bytes, ...], data: memoryview, member: zips.Member
    ) -> None:
        """Goes on with the others when it cannot be read."""
        self._nested_left -= member.size
        if len(within) >= MAX_DEPTH or self._nested_left < 0:
            raise TooManyError("the image's archives have too many archives in them")
        try:
            inner = zips.content(data, member, MAX_NESTED_BYTES)
            if zips.END in bytes(inner[-zips.END_BYTES :]):
                self._zip(path, (*within, member.name), inner)
        except zips.NoZipError:
            return
        except zips.ZipError as error:
            self.unread[path] = str(error)

    def _class(self, unit: Unit, path: bytes, data: memoryview, member: zips.Member) -> None:
        """Nobody can load a class that cannot be read."""
        self._add(unit, path)
        if _JDKS.match(path):
            return
        try:
            content = zips.content(data, member, MAX_CLASS_BYTES)
        except zips.ZipError:
            self._take(member.size if member.size <= MAX_CLASS_BYTES else 0)
            return
        self.look_into(unit, path, content)

    def _take(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise TooManyError("the image's classes are too large")

    def _unit(self, unit: Unit, paths: Iterator[bytes]) -> Unit:
        for path in paths:
            self._add(unit, path)
        return unit

    def _add(self, unit: Unit, path: bytes) -> None:
        self._classes_left -= unit.add(path)
        if self._classes_left < 0:
            raise TooManyError("the image's archives have too many classes")

    def _keep(self, unit: Unit) -> None:
        directory, name = _JDK
        if unit.names and name not in unit.names.get(directory, ()):
            self.units.append(unit)
