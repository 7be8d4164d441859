"""Every parser of files of an image, fed with what nobody meant: only its own error comes out, and
it ends in time. An image is untrusted input."""

import contextlib
import io
import struct
import time
import zipfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.holders import Holder
from tests.unit.assemblies import assembly
from tests.unit.elves import Text, archive, object_file, program
from tests.unit.test_shaded import jar, jimage
from vexstream import ar, assemblies, script_strings, zips
from vexstream import jimage as runtime_image
from vexstream.classes import ClassArchive, Reader
from vexstream.classfile import traits
from vexstream.elf import REL, RELA, Elf, ElfError
from vexstream.fragments import UnreadableError, Work, fragments
from vexstream.headers import Header
from vexstream.linked import Code, UnsearchableError
from vexstream.php_sources import Source
from vexstream.plugnplay import NodeArchive
from vexstream.python_modules import modules_in
from vexstream.python_phrases import Phrases
from vexstream.recognition import PYTHON_MARKS, Content
from vexstream.scripts import Script, lines, names

_CODE = bytes(range(256)) * 3
_OBJECT = object_file(Text(_CODE, places=(40, 90)), Text(_CODE[::-1], name=b".text.unlikely"))
_NUITKA = b"".join(
    name + b"\0" + struct.pack("<I", len(content) + 1) + content + b"."
    for name, content in (
        (b".bytecode", b"\0\3site-packages/a/b.py" + bytes(7)), (b"", bytes(3)), (b"shop", bytes(2))
    )
)  # fmt: skip


def _deflated() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/B.class", b"b" * 999)
        made.writestr("lib/in.jar", jar("c/D.class"))
    return content.getvalue()


SEEDS = (
    _deflated(),
    jar("a/B.class", nested={"x.jar": jar("c/D.class", nested={"y.zip": jar("e/F.class")})}),
    jimage([("java.base", "java/lang", "Object"), ("acme.lib", "org/acme", "LentReader")]),
    archive(("a.o", _OBJECT), ("b" * 40 + ".o", _OBJECT)),
    _OBJECT,
    program(_CODE),
    program(_CODE) + _NUITKA + b"init shop.cart\0shop/cart.pyx\0inti_init_shop___cart\0__pyx_",
    b"#!/usr/bin/python3\n" + jar("m/__init__.py"),
    b"/* a */ static inline int f(int *p) { for (;;) p[1] = 2; }\n#define X \\\n y {\n",
    b"\xca\xfe\xba\xbe\0\0\0\x34\0\4\1\0\5hello\x08\0\1\7\0\1" + bytes(40),
    b"the shop says that a cart holds nothing at all of it\n" * 3,
    assembly("Shop.dll", ["Shop.Cart"], ["Shop.Inner"], resources=["costura.cart.dll.compressed"]),
    b"// node_modules/ms/index.js\nvar __webpack_ = exports: { } };\n" + b"x" * 1200,
)


def _zips(data: memoryview) -> None:
    for member in zips.members(data):
        zips.content(data, member, 1 << 20)


def _elf(data: memoryview) -> None:
    elf = Elf(data)
    elf.code(whole=False)
    elf.code()
    sections = elf.sections() if elf.section_count() < 10_000 else []
    elf.names(sections)
    for section in sections:
        if section.type in (REL, RELA):
            list(elf.relocated(section))


def _linked(data: memoryview) -> None:
    code = Code()
    for machine, fragment in fragments(memoryview(_OBJECT), Work()):
        code.add(b"/a.a", machine, fragment)
    code.archives_in(data)


def _phrases(data: memoryview) -> None:
    said = Phrases()
    said.add(b"/app", data)
    said.compare([0], bytes(data))


def _streamed(data: memoryview) -> None:
    for step in (7, 4096) if len(data) < 100_000 else (4096,):
        readers = (Holder(b"/x"), Content(b"/x.o"), ClassArchive(), Header(),
                   Script(b"/x.js"), NodeArchive(), Source())  # fmt: skip
        for at in range(0, len(data), step):
            for reader in readers:
                reader.feed(bytes(data[at : at + step]))
        readers[0].close()
        readers[6].sketch()
        readers[4].close()
        readers[2].is_one()
        readers[3].has_code()
    list(lines(bytes(data)))
    list(names(bytes(data)))


def _strings(data: memoryview) -> None:
    content = bytes(data)
    script_strings.traces(content)
    script_strings.words(content)
    script_strings.externals(content)
    list(script_strings.exported(content))


PARSERS: dict[str, tuple[Callable[[memoryview], object], tuple[type[Exception], ...]]] = {
    "zips": (_zips, (zips.ZipError,)),
    "jimage": (lambda data: list(runtime_image.classes(data)), (runtime_image.JimageError,)),
    "classes": (lambda data: Reader().read(b"/x", data), ()),
    "ar": (lambda data: list(ar.members(data)), (ar.ArchiveError,)),
    "elf": (_elf, (ElfError,)),
    "fragments": (lambda data: list(fragments(data, Work())), (UnreadableError,)),
    "linked": (_linked, (UnsearchableError,)),
    "python": (lambda data: modules_in(data, PYTHON_MARKS), ()),
    "streamed": (_streamed, ()),
    "class file": (lambda data: traits(b"A", data), ()),
    "phrases": (_phrases, ()),
    "strings": (_strings, ()),
    "assemblies": (assemblies.read, (assemblies.AssemblyError,)),
}


_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of which some numbers were changed, with an end too early or too late perhaps."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content) - 1))
        number = draw(st.sampled_from([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**64 - 1])
                      | st.integers(0, len(content)))  # fmt: skip
        width = draw(st.sampled_from([1, 2, 4, 8]))
        order = draw(st.sampled_from("<>"))
        fitting = number & (1 << 8 * width) - 1
        content[at : at + width] = struct.pack(order + _LETTERS[width], fitting)
    cut = draw(st.none() | st.integers(0, len(content)))
    return bytes(content[:cut]) + draw(st.binary(max_size=30))


@pytest.mark.parametrize("name", PARSERS)
@given(content=damaged() | st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_only_the_parsers_own_error_comes_out(name: str, content: bytes) -> None:
    parse, error = PARSERS[name]
    with contextlib.suppress(*error):
        parse(memoryview(content))


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_every_beginning_of_a_file(name: str, seed: int) -> None:
    parse, error = PARSERS[name]
    for end in range(0, len(SEEDS[seed]), 1 + len(SEEDS[seed]) // 150):
        try:
            parse(memoryview(SEEDS[seed][:end]))
        except error:
            continue


_EMPTY_NAME = b"\0" + struct.pack("<I", 3) + b"\0\0."
"""Without it there is no table."""


def _wordy() -> bytes:
    content = b"a" * ((4 << 20) - 1) + b"."
    return b".bytecode\0" + struct.pack("<I", len(content)) + content + _EMPTY_NAME


def _tables() -> bytes:
    """Each begins with the next one."""
    return b".bytecode\0\3\0\0\0\0\0." * 30_000 + _EMPTY_NAME


def _nested_tables() -> Iterator[bytes]:
    """All of them end at one place."""
    whole = 4 << 20
    for at in range(0, whole, 64):
        yield b".bytecode\0" + struct.pack("<I", whole - at - 14) + b"a" * 49 + b"."
    yield _EMPTY_NAME


def _one_place(runs: int) -> bytes:
    """A runtime image of which every place is the whole table, and every name the whole text."""
    places, strings = bytes([0x0F]) * 300_000, b"n" * 300_000
    head = struct.pack("<7I", 0xCAFEDADA, 1 << 16, 0, runs, runs, len(places), len(strings))
    return head + bytes(8 * runs) + places + strings


def _long_names() -> bytes:
    table = b"n" * (4 << 20)
    head = b"%-16s%-12s%-6s%-6s%-8s%-10d`\n"
    member = head % (b"/0", b"0", b"0", b"0", b"644", 0)
    return (
        b"!<arch>\n"
        + head % (b"//", b"0", b"0", b"0", b"644", len(table))
        + table
        + 50_000 * member
    )


def _long_types() -> bytes:
    """Many types of one long name."""
    return assembly("a.dll", ["n" * 1000 + f".{number}" for number in range(5_000)], wide=True)


def _libraries() -> bytes:
    """Many names that begin like one of a library, and do not end so."""
    return assembly("a.dll", resources=["n.dll." + "a" * 40] * 80_000, wide=True)


BURNING = {
    "a long word": ("strings", b"a" * (4 << 20)),
    "regular expressions without end": ("strings", b"(/[" * 1_000_000),
    "classes in regular expressions without end": ("strings", b"[=/]" * 1_000_000),
    "strings without end": ("strings", b"\"'\\" * 1_000_000),
    "comments without end": ("strings", b"/*" * 1_000_000),
    "lists of exports without end": ("strings", b"export {" * 500_000),
    "spaces": ("strings", b"import export function exports" + b" " * (4 << 20)),
    "names of packages without end": ("strings", b"require('@a" * 300_000),
    "long names of types": ("assemblies", _long_types()),
    "names of libraries": ("assemblies", _libraries()),
    "one long word in bytecode": ("python", _wordy()),
    "tables in tables": ("python", _tables()),
    "bytecode in bytecode": ("python", b"".join(_nested_tables())),
    "words before names": ("python", (b"a" * 1000 + b"!.py\0") * 8000),
    "places without end": ("jimage", _one_place(100_000)),
    "names without end": ("ar", _long_names()),
    "a long row of letters": ("phrases", b"a" * (1 << 20)),
    "letters and digits": ("phrases", b"a1" * (1 << 19)),
    "words without end": ("phrases", b"a " * (1 << 20)),
    "braces": ("streamed", b"f() {" * 300_000),
    "heads of archives": ("streamed", b"PK" + (b"PK\3\4" + b".py" * 10) * 30_000),
}


@pytest.mark.parametrize("case", BURNING)
def test_nothing_takes_more_time_than_its_length_explains(case: str) -> None:
    name, content = BURNING[case]
    parse, error = PARSERS[name]
    begun = time.process_time()
    with contextlib.suppress(*error):
        parse(memoryview(content))
    assert time.process_time() - begun < 10
