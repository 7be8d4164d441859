"""Packages whose code other programs carry: archives, sources, frozen programs."""

import pytest

from tests.unit.images import artifact, deb, image
from vexstream.compiled import with_doubts
from vexstream.copies import Copies, wanted, with_copies
from vexstream.imagefiles import Image, Native
from vexstream.ownership import assign
from vexstream.recognition import Form, Mark
from vexstream.sbom import Artifact
from vexstream.scan import Package

ARCHIVE, PROGRAM = b"usr/lib/liba.a", b"app/server"
DEV = deb("liba-dev", "/usr/lib/liba.a")


def place(*files: bytes, marks: frozenset[Mark] = frozenset(), **more: dict[bytes, bytes]) -> Image:
    known = image(ARCHIVE, PROGRAM, *files, **more)  # type: ignore[arg-type]
    natives = {
        b"/" + ARCHIVE: Native(Form.ARCHIVE, frozenset(), (0,)),
        b"/" + PROGRAM: Native(Form.PROGRAM, marks, (1,)),
    }
    return Image(known.root, natives=natives)


def mapped(where: Image, copies: Copies, *found: Artifact) -> dict[str, Package]:
    packages = assign(found, where)
    done = with_copies(packages, where, wanted(packages, where), copies)
    return {package.name: package for package in done}


def test_a_program_that_holds_code_belongs_to_the_archives_package_too() -> None:
    where = place(hard={b"app/again": PROGRAM})
    copies = Copies(held={b"/app/server": {b"/usr/lib/liba.a"}})
    files = mapped(where, copies, DEV)["liba-dev"].files
    assert files == (b"/app/again", b"/app/server", b"/usr/lib/liba.a")


def test_nothing_is_read_where_archives_or_programs_are_nobodys_concern() -> None:
    where = place()
    both = [DEV, deb("server", "/app/server")]
    assert not wanted(assign(both, where), where).archives
    assert not wanted(assign([], where), where).programs
    found = wanted(assign([DEV], where), where)
    assert (set(found.archives), set(found.programs)) == ({b"/usr/lib/liba.a"}, {b"/app/server"})
    by_syft = artifact("binary", "server", at=("/app/server",))
    assert set(wanted(assign([DEV, by_syft], where), where).programs) == {b"/app/server"}


def test_what_could_not_be_read_leaves_the_package_open() -> None:
    unreadable = Copies(unreadable={b"/usr/lib/liba.a": "it is strange"})
    other = deb("other", "/usr/lib/other.so")
    packages = mapped(place(b"usr/lib/other.so"), unreadable, DEV, other)
    assert "it is strange" in str(packages["liba-dev"].unobservable)
    assert packages["other"].unobservable is None
    unsearched = Copies(unsearched={b"/app/server": "it is packed"})
    reason = mapped(place(), unsearched, DEV)["liba-dev"].unobservable
    assert reason == "/app/server may have been linked with its archive: it is packed"


@pytest.mark.parametrize("go", [True, False])
def test_gos_archives_matter_to_gos_programs(go: bool) -> None:
    copies = Copies(unreadable={b"/usr/lib/liba.a": "objects of Go"}, for_go={b"/usr/lib/liba.a"})
    where = place(marks=frozenset([Mark.GO]) if go else frozenset())
    assert (mapped(where, copies, DEV)["liba-dev"].unobservable is not None) == go


SOURCES = {
    "golang-src": b"usr/share/go/src/net/http.go",
    "librust-dev": b"usr/share/cargo/registry/a/lib.rs",
    "rapidjson": b"usr/include/rapidjson/reader.h",
    "boost": b"usr/include/boost/any.hpp",
    "libstdc++-dev": b"usr/include/c++/12/vector",
    "linux-libc-dev": b"usr/include/linux/netlink.h",
    "kernel-headers": b"usr/include/linux/other.h",
}


@pytest.mark.parametrize(
    ("marks", "doubted"),
    [
        ([], {"rapidjson", "boost", "libstdc++-dev"}),
        ([Mark.GO, Mark.GO_ALONE], {"golang-src"}),
        ([Mark.GO], {"golang-src", "rapidjson", "boost", "libstdc++-dev"}),
        ([Mark.RUST], {"librust-dev", "rapidjson", "boost", "libstdc++-dev"}),
    ],
)
def test_sources_that_may_be_compiled_in(marks: list[Mark], doubted: set[str]) -> None:
    where = place(*SOURCES.values(), marks=frozenset(marks))
    found = [deb(name, f"/{path.decode()}") for name, path in SOURCES.items()]
    done = with_doubts(found, assign(found, where), where)
    assert {package.name for package in done if package.unobservable} == doubted
    packaged = [*found, deb("server", "/app/server")]
    done = with_doubts(packaged, assign(packaged, where), where)
    assert not [package.name for package in done if package.unobservable]


@pytest.mark.parametrize("native", [True, False])
def test_a_frozen_python_program_may_hold_libraries_of_the_system(native: bool) -> None:
    found = [deb("libz", "/usr/lib/libz.so.1"), deb("curl", "/usr/bin/curl"),
             deb("python3", "/usr/lib/python3.11/os.py")]  # fmt: skip
    where = place(b"usr/lib/libz.so.1", b"usr/bin/curl", b"usr/lib/python3.11/os.py")
    where.holders = {b"/app/server" if native else b"/app/zipapp": "python"}
    done = assign(found, where)
    doubted = {package.name for package in done if package.unobservable}
    assert doubted == ({"libz", "python3"} if native else set())
