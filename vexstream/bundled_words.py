"""The words of an image's own scripts, of as many scripts at a time as there is room for.

For each word there is a number with a bit for each script that has it, so what is asked of all of
them is asked at once. An image with tens of thousands of scripts has no room for that. Then its
scripts are read twice: the second time packages are known, of which hardly any word is, and scripts
come in blocks, each of which is compared before the next one is read.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from vexstream import script_strings
from vexstream.sieve import Sieve

MAX_WORD_BYTES = 192 << 20
"""What is held of the words of own scripts, and of the names that they load."""
BLOCK = 4096
"""Scripts that are compared at once, when not all are: with more, words would need long numbers."""
_BYTES_A_WORD = 128


@dataclass(slots=True)
class Words:
    """Of a block of own scripts, which begins with number ``first`` of them."""

    first: int = 0
    sieve: Sieve | None = None
    """The words that packages have, when only these are kept."""
    count: int = 0
    words: dict[int, int] = field(default_factory=dict)
    loaded: dict[int, int] = field(default_factory=dict)
    """Scripts by the packages that they load by name."""
    _room: int = field(default_factory=lambda: MAX_WORD_BYTES)

    @property
    def is_over(self) -> bool:
        """There was no room for all of them."""
        return self._room < 0

    @property
    def is_full(self) -> bool:
        """Another script may be too much."""
        return self.count >= BLOCK or self._room < MAX_WORD_BYTES // 2

    def begin(self) -> None:
        """The next script."""
        self.count += 1

    def add(self, content: bytes) -> None:
        """A part of it; words at its borders have to be in another part as well."""
        bit = 1 << self.count - 1
        for known, seen in (
            (self.loaded, script_strings.externals(content)),
            (self.words, script_strings.words(content)),
        ):
            for word in self._wanted(seen):
                before = known.get(word, 0)
                known[word] = before | bit
                grown = (bit.bit_length() - before.bit_length() + 7) // 8
                self._room -= max(grown, 0) if before else _BYTES_A_WORD + grown

    def next(self) -> "Words":
        """The block that comes after this one."""
        return Words(self.first + self.count, self.sieve)

    def _wanted(self, words: Set[int]) -> Set[int]:
        if self.sieve is None:
            return words
        return {word for word in words if word in self.sieve}
