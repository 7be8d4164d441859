"""What the content of a file says, whichever way it comes in parts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.elves import Text, archive, object_file, program
from vexstream.recognition import Content, Form, Mark

PROGRAM = program(b"\x90" * 100)
MARKS = {
    Mark.GO: b"\xff Go buildinf:",
    Mark.GO_ALONE: b"build\tCGO_ENABLED=0\n",
    Mark.RUST: b"RUST_BACKTRACE",
    Mark.CYTHON: b"__pyx_module",
    Mark.MYPYC: b"a__mypyc",
    Mark.NUITKA: b"__nuitka_version__",
    Mark.FROZEN: b"\xe3"
    + bytes(12)
    + b"\3"
    + bytes(7)
    + b"\xf3\x20\0\0\0"
    + bytes(32)
    + b"\xda\x0cidna/core.py\xda",
}


def content(whole: bytes, *cuts: int, path: bytes = b"/app/it") -> Content:
    found = Content(path)
    places = sorted({0, *(cut % len(whole) for cut in cuts), len(whole)})
    for start, end in itertools.pairwise(places):
        found.feed(whole[start:end])
    return found


@pytest.mark.parametrize("mark", MARKS)
@given(st.lists(st.integers(64, 10_000), max_size=5))
def test_marks_of_programs(mark: Mark, cuts: list[int]) -> None:
    whole = PROGRAM + bytes(300) + MARKS[mark] + bytes(300)
    found = content(whole, *(cut for cut in cuts if cut < len(whole)))
    assert found.marks == {mark}
    assert found.form is Form.PROGRAM
    assert not content(b"text " + MARKS[mark]).marks


@pytest.mark.parametrize(
    ("whole", "path", "form"),
    [
        (archive(("a.o", object_file(Text(bytes(50))))), b"/usr/lib/liba.a", Form.ARCHIVE),
        (b"!<thin>\n", b"/usr/lib/liba.a", Form.ARCHIVE),
        (object_file(Text(bytes(50))), b"/usr/lib/start.o", Form.ARCHIVE),
        (object_file(Text(bytes(50))), b"/usr/lib/Scrt1.o", None),
        (object_file(Text(bytes(50))), b"/usr/lib/modules/x.ko", None),
        (archive(), b"/usr/lib/libc_nonshared.a", None),
        (b"GROUP ( libm-2.36.a )", b"/usr/lib/libm.a", None),
        (b"\x7fELF", b"/app/cut", None),
    ],
)
def test_forms(whole: bytes, path: bytes, form: Form | None) -> None:
    assert content(whole, path=path).form is form


@given(st.lists(st.integers(4000, 9000), max_size=3))
def test_programs_of_the_same_code_are_told_whatever_became_of_the_rest(cuts: list[int]) -> None:
    code = bytes(range(256)) * 20
    plain, more = program(code), program(code) + b"appended" * 900
    known = content(plain).code
    assert known is not None
    assert content(more, *cuts).code == known
    assert content(program(code[:-1] + b"x")).code not in (known, None)
    assert content(program(code[:512])).code is None
