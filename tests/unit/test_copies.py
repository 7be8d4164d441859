"""Packages whose code other programs carry: archives, sources, frozen programs."""

from collections.abc import Sequence, Set
from dataclasses import replace

import pytest

from tests.unit.images import SITE, artifact, deb, image
from vexstream import copies
from vexstream.compiled import with_doubts
from vexstream.copies import Copies, Wanted, wanted, with_copies
from vexstream.imagefiles import Image, Native
from vexstream.own import Programs, distributed_files, own_programs
from vexstream.ownership import assign
from vexstream.recognition import Form, Mark
from vexstream.sbom import Artifact
from vexstream.scan import Package

ARCHIVE, PROGRAM = b"usr/lib/liba.a", b"usr/bin/server"
BIN = b"/" + PROGRAM
DEV = deb("liba-dev", "/usr/lib/liba.a")


def place(*files: bytes, marks: frozenset[Mark] = frozenset(), **more: dict[bytes, bytes]) -> Image:
    known = image(ARCHIVE, PROGRAM, *files, **more)  # type: ignore[arg-type]
    natives = {
        b"/" + ARCHIVE: Native(Form.ARCHIVE, frozenset(), (0,)),
        b"/" + PROGRAM: Native(Form.PROGRAM, marks, (1,)),
    }
    return Image(known.root, natives=natives)


def mapped(where: Image, read: Copies, *found: Artifact) -> dict[str, Package]:
    packages = assign(found, where)
    done = with_copies(packages, where, to_read(packages, found, where), read)
    return {package.name: package for package in done}


def programs(found: Sequence[Artifact], packages: Sequence[Package], where: Image) -> Programs:
    return own_programs(where, distributed_files(found, packages, where))


def to_read(packages: Sequence[Package], found: Sequence[Artifact], where: Image) -> Wanted:
    return wanted(packages, where, programs(found, packages, where))


def test_a_program_that_holds_code_belongs_to_the_archives_package_too() -> None:
    where = place(hard={b"app/again": PROGRAM})
    read = Copies(held={BIN: {b"/usr/lib/liba.a"}})
    files = mapped(where, read, DEV)["liba-dev"].files
    assert files == (b"/app/again", BIN, b"/usr/lib/liba.a")


def test_a_short_function_alone_leaves_the_package_open() -> None:
    read = Copies(hinted={b"/usr/lib/liba.a": BIN})
    found = mapped(place(), read, DEV, deb("libb-dev", "/usr/lib/libb.a"))
    assert found["liba-dev"].files == (b"/usr/lib/liba.a",)
    assert found["liba-dev"].unobservable == (
        "/usr/bin/server has a short function like one of /usr/lib/liba.a"
    )


def test_nothing_is_read_where_archives_or_programs_are_nobodys_concern() -> None:
    where = place()
    both = [DEV, deb("server", BIN.decode())]
    assert not to_read(assign(both, where), both, where).archives
    assert not to_read(assign([], where), [], where).programs
    found = to_read(assign([DEV], where), [DEV], where)
    assert (set(found.archives), set(found.programs)) == ({b"/usr/lib/liba.a"}, {BIN})
    by_syft = [DEV, artifact("binary", "server", at=(BIN.decode(),))]
    assert set(to_read(assign(by_syft, where), by_syft, where).programs) == {BIN}


def test_what_could_not_be_read_leaves_the_package_open() -> None:
    unreadable = Copies(unreadable={b"/usr/lib/liba.a": "it is strange"})
    other = deb("other", "/usr/lib/other.so")
    packages = mapped(place(b"usr/lib/other.so"), unreadable, DEV, other)
    assert "it is strange" in str(packages["liba-dev"].unobservable)
    assert packages["other"].unobservable is None
    unsearched = Copies(unsearched={BIN: "it is packed"})
    reason = mapped(place(), unsearched, DEV)["liba-dev"].unobservable
    assert reason == "/usr/bin/server may have been linked with its archive: it is packed"


OTHERS = [deb("libb-dev", "/usr/lib/libb.a"), deb("libc-dev", "/usr/lib/libc.a"), deb("d", "/d")]


@pytest.mark.parametrize(
    ("pairs", "own", "left"),
    [
        (6, {"liba-dev": 2, "libb-dev": 2, "libc-dev": 2}, set()),
        (5, {"liba-dev": 2, "libb-dev": 2, "libc-dev": 1}, {"libc-dev"}),
        (0, {}, {"liba-dev", "libb-dev", "libc-dev"}),
    ],
)
def test_what_is_past_the_bound_is_left_open(
    pairs: int, own: dict[str, int], left: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image may have ten thousand programs with the code of ten thousand archives."""
    monkeypatch.setattr(copies, "MAX_PAIRS", pairs)
    archives = {b"/usr/lib/lib%s.a" % name for name in (b"a", b"b", b"c")}
    held: dict[bytes, Set[bytes]] = {BIN: archives, b"/bin/two": archives}
    where = place(b"bin/two", b"usr/lib/libb.a", b"usr/lib/libc.a", b"d")
    found = mapped(where, Copies(held=held, unreadable={b"/d": "damaged"}), DEV, *OTHERS)
    assert {n: len(p.files) - 1 for n, p in found.items() if len(p.files) > 1} == own
    doubted = {name: p.unobservable for name, p in found.items() if p.unobservable}
    assert doubted.keys() - {"d"} == left
    assert "damaged" in str(doubted["d"]), "that it has too many does not take its own doubt away"


@pytest.mark.parametrize("go", [True, False])
def test_gos_archives_matter_to_gos_programs(go: bool) -> None:
    read = Copies(unreadable={b"/usr/lib/liba.a": "objects of Go"}, for_go={b"/usr/lib/liba.a"})
    where = place(marks=frozenset([Mark.GO]) if go else frozenset())
    assert (mapped(where, read, DEV)["liba-dev"].unobservable is not None) == go


SOURCES = {
    "golang-src": b"usr/share/go/src/net/http.go",
    "librust-dev": b"usr/share/cargo/registry/a/lib.rs",
    "rapidjson": b"usr/include/rapidjson/reader.h",
    "boost": b"usr/include/boost/any.hpp",
    "libstdc++-dev": b"usr/include/c++/12/vector",
    "linux-libc-dev": b"usr/include/linux/netlink.h",
    "kernel-headers": b"usr/include/linux/other.h",
    "libglib-dev": b"usr/include/glib.h",
    "libssl-dev": b"usr/include/ssl.h",
    "libc6-dev": b"usr/include/stdlib.h",
}
HEADERS = {b"/usr/include/linux/netlink.h", b"/usr/include/glib.h", b"/usr/include/stdlib.h"}


HEADERS_ONLY = ("rapidjson", "boost", "libstdc++-dev", "libglib-dev")


@pytest.mark.parametrize(
    ("marks", "doubted"),
    [
        ([], {*HEADERS_ONLY}),
        ([Mark.GO, Mark.GO_ALONE], {"golang-src"}),
        ([Mark.GO], {"golang-src", *HEADERS_ONLY}),
        ([Mark.RUST], {"librust-dev", *HEADERS_ONLY}),
    ],
)
def test_sources_that_may_be_compiled_in(marks: list[Mark], doubted: set[str]) -> None:
    libraries = (b"usr/lib/libssl-dev.so", b"usr/lib/libglib-dev.so", b"usr/lib/libc6-dev.so")
    where = place(*SOURCES.values(), *libraries, marks=frozenset(marks))
    found = [replace(deb(name, f"/{path.decode()}"), source=name) for name, path in SOURCES.items()]
    for name in ("libssl-dev", "libglib-dev", "libc6-dev"):  # each has a library beside it
        found.append(replace(deb(f"{name}-so", f"/usr/lib/{name}.so"), source=name))
    packages = assign(found, where)
    done = with_doubts(found, packages, programs(found, packages, where), HEADERS)
    assert {package.name for package in done if package.unobservable} == doubted
    packaged = [*found, deb("server", BIN.decode())]
    packages = assign(packaged, where)
    done = with_doubts(packaged, packages, programs(packaged, packages, where), HEADERS)
    assert not [package.name for package in done if package.unobservable]


def test_headers_of_a_languages_package_that_has_no_library() -> None:
    bind, numpy = SITE[1:].encode() + b"/pybind11/", SITE[1:].encode() + b"/numpy/"
    files = [bind + b"attr.h", bind + b"__init__.py", numpy + b"ndarray.h", numpy + b"core.so"]
    where = place(*files, numpy + b"__init__.py")
    found = [
        artifact("python", name, files=(f"{name}/{f}" for f in names), at=(f"{SITE}/{name}",))
        for name, names in {
            "pybind11": ("attr.h", "__init__.py"), "numpy": ("ndarray.h", "core.so"),
        }.items()
    ]  # fmt: skip
    packages = assign(found, where)
    own = programs(found, packages, where)
    headers = {b"/" + bind + b"attr.h", b"/" + numpy + b"ndarray.h"}
    done = with_doubts(found, packages, own, headers)
    assert [package.name for package in done if package.unobservable] == ["pybind11"]
    for unchanged in (with_doubts(found, packages, {}, headers),
                      with_doubts(found, packages, own, set())):  # fmt: skip
        assert unchanged == packages


@pytest.mark.parametrize("mark", [Mark.CYTHON, Mark.MYPYC])
def test_compilers_of_python_leave_code_of_their_own(mark: Mark) -> None:
    site = SITE[1:].encode()
    where = place(site + b"/Cython.so", b"usr/lib/cython3.so", marks=frozenset([mark]))
    found = [artifact("python", "Cython", files=["Cython.so"], at=[f"{SITE}/Cython/METADATA"]),
             deb("cython3", "/usr/lib/cython3.so")]  # fmt: skip
    packages = assign(found, where)
    own = programs(found, packages, where)
    itself = {b"/" + site + b"/Cython.so": own[BIN]}
    done = with_doubts(found, packages, own, set())
    doubted = {package.name for package in done if package.unobservable}
    assert doubted == ({"Cython", "cython3"} if mark is Mark.CYTHON else set())
    assert not any(p.unobservable for p in with_doubts(found[:1], packages[:1], itself, set()))


@pytest.mark.parametrize("native", [True, False])
def test_a_frozen_python_program_may_hold_libraries_of_the_system(native: bool) -> None:
    found = [deb("libz", "/usr/lib/libz.so.1"), deb("curl", "/usr/bin/curl"),
             deb("python3", "/usr/lib/python3.11/os.py")]  # fmt: skip
    where = place(b"usr/lib/libz.so.1", b"usr/bin/curl", b"usr/lib/python3.11/os.py")
    where.holders = {BIN if native else b"/app/zipapp": "python"}
    done = assign(found, where)
    doubted = {package.name for package in done if package.unobservable}
    assert doubted == ({"libz", "python3"} if native else set())
