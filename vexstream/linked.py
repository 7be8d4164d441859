"""Which static archives a program was linked with, told by pieces of their code in it."""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress, count

from vexstream.elf import Elf, ElfError, Machine, Segment
from vexstream.fragments import MIN_BYTES, WORD, Fragment, UnreadableError

MAX_FRAGMENTS = 500_000
MAX_CODE_BYTES = 2 << 30
"""Of all programs of an image, looked at once for each place within a word."""
MIN_EVIDENCE_BYTES = 64
"""Of an archive's code in a program: less may be there by chance."""
MAX_CANDIDATES = 20_000_000
"""Comparisons of a fragment with a place in a program."""
MAX_PAIRS = 5_000_000
"""Of an archive and a program that has code of it."""
_UPX, _UPX_WITHIN = b"UPX!", 1024
_BOLT = re.compile(rb"BOLT revision: |\0\.bolt\.org\.|\0\.note\.bolt_info\0")
"""What llvm-bolt, which writes functions anew, leaves in a note and in the names of sections."""


_Pieces = tuple[tuple[int, bytes], ...]


class UnsearchableError(ValueError):
    """Whether a program holds copies cannot be told; says why."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A fragment, and the archives that have it."""

    evidence: int
    archives: set[bytes]


class Code:
    """The fragments of all archives of an image, for each machine."""

    def __init__(self) -> None:
        self._words: dict[Machine, dict[int, dict[_Pieces, _Known]]] = defaultdict(dict)
        self._steps: dict[Machine, int] = defaultdict(lambda: WORD)
        """The smallest alignment of any word."""
        self._kept: Counter[bytes] = Counter()
        self._left, self._code_left = MAX_FRAGMENTS, MAX_CODE_BYTES
        self._candidates_left, self._pairs_left = MAX_CANDIDATES, MAX_PAIRS

    def add(self, archive: bytes, machine: Machine, fragment: Fragment) -> None:
        """Raises: UnreadableError when there are too many."""
        known = self._words[machine].setdefault(_number(fragment.word), {})
        if fragment.pieces not in known:
            self._left -= 1
            if self._left < 0:
                raise UnreadableError("the image's archives have too many sections of code")
            evidence = fragment.size if fragment.size >= MIN_BYTES else 0
            known[fragment.pieces] = _Known(evidence, set())
        found = known[fragment.pieces]
        if archive not in found.archives:
            found.archives.add(archive)
            self._kept[archive] += found.evidence
        self._steps[machine] = min(self._steps[machine], fragment.align)

    def can_be_found(self, archive: bytes) -> bool:
        """Whether the fragments of an archive are evidence when all of them are in a program."""
        return self._kept[archive] >= MIN_EVIDENCE_BYTES

    def archives_in(self, program: memoryview) -> Mapping[bytes, bool]:
        """The archives of which the program holds code, and whether that is proof: where it holds
        but a short function or two, that may be chance.

        Raises:
            UnsearchableError: it is packed, damaged, or too much.
        """
        try:
            elf = Elf(program)
            segments = elf.code()
        except ElfError as error:
            raise UnsearchableError(str(error)) from error
        if _UPX in bytes(program[:_UPX_WITHIN]):
            raise UnsearchableError("it is packed by UPX")
        if _BOLT.search(program):
            raise UnsearchableError("it was rewritten by BOLT after linking")
        words, step = self._words.get(elf.machine, {}), self._steps.get(elf.machine, WORD)
        seen: Counter[bytes] = Counter()
        proven: set[int] = set()
        for segment in segments if words else ():
            self._code_left -= segment.size * (WORD // step)
            if self._code_left < 0:
                raise UnsearchableError("the image's programs have too much code")
            for at in _places(program, segment, words, step):
                for pieces, known in words[_number(program[at : at + WORD])].items():
                    self._candidates_left -= 1
                    if self._candidates_left < 0:
                        raise UnsearchableError("the image's programs repeat code too often")
                    if id(known) not in proven and _stands(program, at, pieces):
                        proven.add(id(known))
                        self._candidates_left -= len(known.archives)
                        seen.update(dict.fromkeys(known.archives, known.evidence))
        self._pairs_left -= len(seen)
        if self._pairs_left < 0:
            raise UnsearchableError("the image's programs hold code of too many archives")
        return {archive: evidence >= MIN_EVIDENCE_BYTES for archive, evidence in seen.items()}


def _places(
    program: memoryview, segment: Segment, words: Container[int], step: int
) -> Iterator[int]:
    """Where one of the words is, at addresses that are multiples of the step."""
    for shift in range(0, WORD, step):
        first = segment.offset + (shift - segment.address) % WORD
        size = (segment.offset + segment.size - first) // WORD * WORD
        if size > 0:
            numbers = program[first : first + size].cast("Q")
            yield from compress(count(first, WORD), map(words.__contains__, numbers))


def _stands(program: memoryview, at: int, pieces: _Pieces) -> bool:
    return all(
        at + distance >= 0 and program[at + distance : at + distance + len(code)] == code
        for distance, code in pieces
    )


def _number(word: bytes | memoryview) -> int:
    """As a memoryview that was cast to ``Q`` gives it."""
    return int(memoryview(word).cast("B").cast("Q")[0])
