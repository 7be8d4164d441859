"""What a class file keeps when it is relocated, minimised or renamed.

Tools that relocate (maven-shade) keep the names of members and what the class says; those that
rename (ProGuard, R8) keep what it says: error messages and other literals. JVMS, chapter 4, has the
form. Everything in such a file is untrusted: one that ends too early has no traits.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\xca\xfe\xba\xbe"
_UTF8, _CLASS, _STRING = 1, 7, 8
_SIZES = {3: 4, 4: 4, 5: 8, 6: 8, _CLASS: 2, _STRING: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2,
          17: 4, 18: 4, 19: 2, 20: 2}  # fmt: skip
_WIDE = frozenset([5, 6])
"""Constants that count as two."""
_SENTENCE = re.compile(rb"[^ ]+ [^ ]+ [^ ].{10,}\Z", re.DOTALL)
_COMPILERS = re.compile(
    rb"null cannot be cast| is marked non-null|Required value was null|lateinit property"
    rb"|Argument for @NotNull|@NotNull method|must not be null\Z"
)
"""What Kotlin's compiler, Lombok and IntelliJ write into everybody's classes."""
_ANYBODYS = re.compile(
    rb"<(?:cl)?init>|(?:get|set|is)(?![a-z]).*|toString|equals|hashCode|compareTo|values|valueOf"
    rb"|\$.*|lambda\$.*|access\$.*|serialVersionUID"
)
_GENERATED = re.compile(
    rb"(?:Simple)?(?:CharStream|Node)|ParseException|Token(?:MgrError)?|JJT.*State"
)
"""What JavaCC writes beside every parser."""
_LEAST = 4
"""A class with fewer members and literals of its own is like others by chance."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Numbers that are the same for what is the same, in this process alone."""

    shape: int | None
    """Of its name, members and literals, None when these are too few: relocation keeps it."""
    sentences: frozenset[int]
    """Of the literals of three words or more: renaming keeps them."""


NONE = Traits(None, frozenset())


def traits(name: bytes, data: memoryview) -> Traits:
    """Of a class file; ``name`` is that of its class, without packages."""
    if data[:4] != MAGIC:
        return NONE
    try:
        return _traits(name, bytes(data))
    except (IndexError, KeyError, struct.error):
        return NONE


def _traits(name: bytes, data: bytes) -> Traits:
    texts: dict[int, bytes] = {}
    said: list[int] = []
    number, at, count = 1, 10, data[8] << 8 | data[9]
    while number < count:
        tag = data[at]
        if tag == _UTF8:
            end = at + 3 + (data[at + 1] << 8 | data[at + 2])
            texts[number] = data[at + 3 : end]
            at = end
        else:
            if tag == _STRING:
                said.append(data[at + 1] << 8 | data[at + 2])
            number += tag in _WIDE
            at += 1 + _SIZES[tag]
        number += 1
    literals = {texts[one] for one in said}
    own = {texts[one] for one in _members(data, at)}
    # Relocation changes what looks like the name of a class.
    own |= {text for text in literals if b"/" not in text and b"." not in text}
    telling = sum(1 for text in own if not _ANYBODYS.fullmatch(text))
    has_shape = telling >= _LEAST and not _GENERATED.fullmatch(name)
    return Traits(
        hash((name, frozenset(own))) if has_shape else None,
        frozenset(
            hash(text) for text in literals
            if _SENTENCE.match(text) and not _COMPILERS.search(text)
        ),
    )  # fmt: skip


def _members(data: bytes, at: int) -> Iterator[int]:
    """The constants with the names of fields and methods."""
    at += 8 + 2 * (data[at + 6] << 8 | data[at + 7])
    for _ in range(2):
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(count):
            name, attributes = struct.unpack_from(">2xH2xH", data, at)
            yield name
            at += 8
            for _ in range(attributes):
                (size,) = struct.unpack_from(">2xI", data, at)
                at += 6 + size
