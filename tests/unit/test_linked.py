"""Code of an archive is found in a program, whatever a linker does to it; nothing else is."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.elves import AMD64, Form, Text, archive, object_file, program
from vexstream import ar, fragments, linked
from vexstream.elf import AARCH64, EXECINSTR, IN_GROUP, RISC_V
from vexstream.fragments import UnreadableError, Work
from vexstream.linked import Code, UnsearchableError

FORMS = [AMD64, Form(64, "<", AARCH64), Form(32, "<", 3), Form(64, ">", 22), Form(32, ">", 20)]


def code(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def learned(content: bytes, name: bytes = b"/usr/lib/liba.a") -> Code:
    known = Code()
    for machine, fragment in fragments.fragments(memoryview(content), Work()):
        known.add(name, machine, fragment)
    return known


def found(content: bytes, in_program: bytes) -> set[bytes]:
    return proven(learned(content), in_program)


def proven(known: Code, in_program: bytes) -> set[bytes]:
    return {name for name, yes in known.archives_in(memoryview(in_program)).items() if yes}


def relinked(text: Text, before: int = 4, size: int = 4) -> bytes:
    """The section as a linker leaves it: other bytes where relocations are."""
    done = bytearray(text.code)
    for place in text.places:
        for at in range(max(0, place - before), min(len(done), place + size)):
            done[at] ^= 0xFF
    return bytes(done)


@pytest.mark.parametrize("form", FORMS, ids=str)
@settings(deadline=None)
@given(data=st.data())
def test_a_linked_section_is_found_wherever_it_stands(form: Form, data: st.DataObject) -> None:
    align = data.draw(st.sampled_from([1, 2, 4, 8, 16, 64]))
    places = data.draw(st.lists(st.integers(0, 396), max_size=4))
    text = Text(code(400), places, align=align)
    known = learned(archive(("a.o", object_file(text, form=form))))
    gap = data.draw(st.integers(0, 100)) * align
    before = 0 if form.machine == AARCH64 else 4  # a whole instruction, not an operand
    linked_code = b"\x90" * gap + relinked(text, before) + b"\x90" * data.draw(st.integers(0, 30))
    address = 0x10000 + data.draw(st.integers(0, 60)) * align
    assert proven(known, program(linked_code, address, form)) == {b"/usr/lib/liba.a"}


def test_a_thread_local_sequence_may_be_rewritten_whole() -> None:
    text = Text(code(200), [60, 130], relocation=19)
    assert found(object_file(text), program(relinked(text, 4, 12)))


def test_one_section_of_a_member_is_enough() -> None:
    content = archive(
        ("unused-with-a-long-name.o", object_file(Text(code(300, 2)))),
        ("used.o", object_file(Text(code(300, 3), name=b".text.one"), Text(code(300, 4)))),
    )
    assert found(content, program(code(64, 9) + code(300, 3)))


def test_other_code_is_not_found() -> None:
    content = archive(("a.o", object_file(Text(code(300)))))
    assert not found(content, program(code(5000, 2)))
    assert not found(content, program(code(300)[:250]))
    assert not found(content, program(code(300), form=Form(64, "<", AARCH64)))


def test_what_is_too_short_to_be_told_is_no_evidence() -> None:
    short = code(40)
    assert not found(object_file(Text(short)), program(short))
    several = archive(*((f"{n}.o", object_file(Text(code(40, n)))) for n in range(3)))
    assert found(several, program(b"".join(code(40, n) + bytes(8) for n in range(3))))


def test_code_out_of_headers_is_not_the_archives() -> None:
    text = Text(code(300), flags=6 | IN_GROUP)
    assert not found(object_file(text), program(text.code))


def test_a_machine_whose_linkers_shorten_code_keeps_single_pieces() -> None:
    form = Form(64, "<", RISC_V)
    text = Text(code(600), [100, 300])
    shorter = text.code[:96] + text.code[116:296] + text.code[316:]
    assert found(object_file(text, form=form), program(shorter, 0x10000 + 24, form))


def test_two_archives_with_one_code_are_both_found() -> None:
    known = Code()
    for name in (b"/liba.a", b"/libb.a"):
        for machine, fragment in fragments.fragments(
            memoryview(object_file(Text(code(300)))), Work()
        ):
            known.add(name, machine, fragment)
    assert proven(known, program(code(300))) == {b"/liba.a", b"/libb.a"}


@pytest.mark.parametrize(("size", "hinted"), [(19, False), (20, True), (31, True), (40, True)])
def test_a_short_function_alone_is_no_proof_but_said(size: int, hinted: bool) -> None:
    known = learned(object_file(Text(code(300)), Text(code(size, 7))))
    found = known.archives_in(memoryview(program(code(size, 7) + bytes(64))))
    assert found == ({b"/usr/lib/liba.a": False} if hinted else {})


def many_sections(content: bytes) -> bytes:
    """Sections of no size, and 2**40 of them: the first one says so when the header has 0."""
    sections = int.from_bytes(content[40:48], "little")
    head = bytearray(content)
    head[58:62] = bytes(4)
    head[sections + 32 : sections + 40] = (1 << 24).to_bytes(8, "little")
    return bytes(head)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (archive(("a.o", b"BC\xc0\xde" + bytes(60))), "optimisation at link time"),
        (archive(("a.o", object_file(Text(code(100)), Text(b"", name=b".gnu.lto_main")))),
         "optimisation at link time"),
        (object_file(Text(b"", name=b".gnu.lto_main")), "optimisation at link time"),
        (object_file(Text(code(100)))[:90], "shorter|outside"),
        (many_sections(object_file(Text(code(100)))), "lie outside"),
        (archive(("a.o", b"something else")), r"a\.o: it is no ELF file"),
        (archive(("a.o", object_file(Text(code(100)))[:90])), "shorter|outside"),
        (archive(("__.PKGDEF", b"go object linux"), ("_go_.o", b"")), "objects of Go"),
        (archive(("a.o", object_file(Text(code(100)))))[:-20], "ends within a member"),
        (b"!<arch>\n" + b"x" * 100, "damaged header"),
        (b"!<thin>\n" + bytes(100), "outside of it"),
    ],
)  # fmt: skip
def test_an_archive_that_cannot_be_read_says_why(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        list(fragments.fragments(memoryview(content), Work()))


@pytest.mark.parametrize("name", ["lib.rmeta", "a.o"])
def test_members_without_code_do_no_harm(name: str) -> None:
    coff = b"\x64\x86\x01\x00" + bytes(60)
    content = archive((name, coff), ("b.o", object_file(Text(code(300)))), ("empty", b""))
    assert found(content, program(code(300)))


def test_names_in_the_manner_of_bsd() -> None:
    inner = object_file(Text(code(300)))
    body = b"longer-name.o".ljust(20, b"\0") + inner
    header = b"%-16s%-12s%-6s%-6s%-8s%-10d`\n" % (b"#1/20", b"", b"", b"", b"", len(body))
    content = b"!<arch>\n" + header + body
    assert [name for name, _ in ar.members(memoryview(content))] == [b"longer-name.o"]
    assert found(content, program(code(300)))


def test_work_has_an_end() -> None:
    object_ = object_file(Text(code(300), range(0, 300, 3)))
    with pytest.raises(UnreadableError, match="too many"):
        list(fragments.fragments(memoryview(archive(("a.o", object_))), Work(20)))


def test_programs_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    known = learned(object_file(Text(code(300))))
    known._code_left = 100
    with pytest.raises(UnsearchableError, match="too much code"):
        known.archives_in(memoryview(program(code(300, 2))))
    monkeypatch.setattr(linked, "MAX_CANDIDATES", 10)
    text = Text(bytes(300))
    with pytest.raises(UnsearchableError, match="too often"):
        learned(object_file(text)).archives_in(memoryview(program(bytes(5000))))


def test_pairs_of_archives_and_programs_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked, "MAX_PAIRS", 3)
    content = object_file(Text(code(300)))
    known = learned(content, b"/a.a")
    for machine, fragment in fragments.fragments(memoryview(content), Work()):
        known.add(b"/b.a", machine, fragment)
    assert proven(known, program(code(300))) == {b"/a.a", b"/b.a"}
    with pytest.raises(UnsearchableError, match="too many archives"):
        known.archives_in(memoryview(program(code(300))))


def test_a_packed_program_cannot_be_searched() -> None:
    packed = program(code(300)).replace(bytes(4), b"UPX!", 1)
    with pytest.raises(UnsearchableError, match="UPX"):
        learned(object_file(Text(code(300)))).archives_in(memoryview(packed))


@pytest.mark.parametrize(
    "mark", [b"\0.bolt.org.text\0", b"\0.note.bolt_info\0", b"BOLT revision: 1"]
)
def test_a_program_that_was_written_anew_cannot_be_searched(mark: bytes) -> None:
    rewritten = program(code(300)) + mark
    with pytest.raises(UnsearchableError, match="BOLT"):
        learned(object_file(Text(code(300)))).archives_in(memoryview(rewritten))


def test_what_can_be_found_is_known_beforehand() -> None:
    name = b"/usr/lib/liba.a"
    assert learned(object_file(Text(code(64))), name).can_be_found(name)
    short = [Text(code(40)), Text(code(40)), Text(code(20, 2))]
    assert not learned(object_file(*short), name).can_be_found(name)
    assert not learned(object_file(Text(code(300), flags=EXECINSTR | IN_GROUP)), name).can_be_found(
        name
    )


def test_fragments_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked, "MAX_FRAGMENTS", 1)
    with pytest.raises(UnreadableError, match="too many sections"):
        learned(object_file(Text(code(300)), Text(code(300, 2))))


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 700), st.booleans())
def test_damage_ends_in_a_reason(noise: bytes, at: int, cut: bool) -> None:
    whole = archive(("a.o", object_file(Text(code(300), [50, 200]))))
    damaged = whole[:at] + noise + (b"" if cut else whole[at + len(noise) :])
    known = Code()
    try:
        for machine, fragment in fragments.fragments(memoryview(damaged), Work()):
            known.add(b"/a", machine, fragment)
    except UnreadableError:
        pass
    good = program(code(300))
    damaged = good[:at] + noise + (b"" if cut else good[at + len(noise) :])
    with contextlib.suppress(UnsearchableError):
        known.archives_in(memoryview(damaged))
