"""Reads the archives that packages own, and the programs that may hold their code, once more."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.scanner.rereading import LongFileError, each, mapped
from vexstream.copies import Copies, Wanted
from vexstream.fragments import GoArchiveError, UnreadableError, Work, fragments
from vexstream.imagefiles import Native
from vexstream.linked import Code, UnsearchableError

MAX_ARCHIVE_BYTES = 2 << 30
"""All archives of an image."""
MAX_PROGRAM_BYTES = 1 << 30
"""One program."""
MIN_CODE_BYTES = 256
"""An archive with less has no code worth the name: stubs such as glibc's libg.a."""


def read(wanted: Wanted, blobs: Sequence[Path], max_unpacked_bytes: int, work: Path) -> Copies:
    """What the programs hold of the archives; ``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    copies, code, budget, left = Copies(), Code(), Work(), MAX_ARCHIVE_BYTES
    for archive, parts in each(layers_of(wanted.archives), blobs, max_unpacked_bytes):
        try:
            data = mapped(parts, work, left)
            left -= len(data)
            before = budget.code_bytes + MIN_CODE_BYTES
            for machine, fragment in fragments(data, budget):
                code.add(archive, machine, fragment)
            if budget.code_bytes >= before and not code.can_be_found(archive):
                raise UnreadableError("its functions are too short, or compiled from headers")
        except (UnreadableError, LongFileError) as error:
            copies.unreadable[archive] = str(error)
            if isinstance(error, GoArchiveError):
                copies.for_go.add(archive)
    for program, parts in each(layers_of(wanted.programs), blobs, max_unpacked_bytes):
        try:
            found = code.archives_in(mapped(parts, work, MAX_PROGRAM_BYTES))
            held = {archive for archive, proven in found.items() if proven}
            copies.held[program] = copies.held.get(program, frozenset()) | held
            copies.hinted |= dict.fromkeys(found.keys() - held, program)
        except (UnsearchableError, LongFileError) as error:
            copies.unsearched[program] = str(error)
    return copies


def layers_of(
    wanted: Mapping[bytes, Mapping[bytes, Native]],
) -> Mapping[bytes, Mapping[bytes, tuple[int, ...]]]:
    """As ``each`` takes it."""
    return {
        real: {path: native.layers for path, native in natives.items()}
        for real, natives in wanted.items()
    }
