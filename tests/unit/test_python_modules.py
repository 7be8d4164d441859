"""What compiled Python says about the modules in them."""

import tracemalloc

import pytest

from tests.unit.images import SITE, artifact, deb, image
from vexstream.imagefiles import Image, Native
from vexstream.ownership import assign
from vexstream.python_modules import Modules, by_path, modules_in, wanted, with_modules
from vexstream.recognition import Form, Mark

SIX = artifact("python", "six", files=("six.py", "six-1.dist-info/RECORD"))
IDNA = artifact("python", "idna", files=("idna/__init__.py", "idna/core.py"))
DEBIAN = deb("python3-idna", "/usr/lib/python3/dist-packages/idna/core.py")
FILES = (
    SITE.encode() + b"/six.py",
    SITE.encode() + b"/idna/__init__.py",
    SITE.encode() + b"/idna/core.py",
    b"/usr/lib/python3/dist-packages/idna/core.py",
)
PROGRAM = b"/app/shop.so"


def entry(name: bytes, part: bytes = b"") -> bytes:
    part = b"\1\0" + part + b"."
    return name + b"\0" + len(part).to_bytes(4, "little") + part


LONG = "site/" * 7 + "dir/ab/six.py"
ELSEWHERE = "/srv/My Jobs/shöp@2/idna/core.py".encode()
LIKE_A_LENGTH = b"/idna/z0" + b"x" * 45 + b".py"
BYTECODE = b"\xda\x0cidna/core.pyz" + bytes([len(LONG)]) + LONG.encode() + b"r\0"
"""As marshal writes it: a letter for the length, and for what comes after."""


@pytest.mark.parametrize(
    ("mark", "content", "names"),
    [
        (Mark.CYTHON, b"\0init idna.core\0", {"idna.core"}),
        (Mark.CYTHON, b"\0src/idna/core.py\0", {"src.idna.core"}),
        (Mark.CYTHON, b"\0import idna.core\0idna/core.c\0", set()),
        (Mark.MYPYC, b"\0a__mypyc.init_idna___core\0", {"idna.core"}),
        (Mark.MYPYC, b"\0CPyInit_a___3_b___c\0", {"a___b.c"}),
        (Mark.MYPYC, b"\0__init_subclass\0", set()),
        (Mark.MYPYC, b"\0idna/__init__.py\0", {"idna"}),
        (Mark.FROZEN, b"\xf3\1\0\0\0\xda\x15/srv/lib/idna/core.pyr\xda\x06six.pyz",
         {"srv.lib.idna.core", "six"}),
        (Mark.FROZEN, b"u\x0c\0\0\0idna/core.py\0", {"idna.core"}),
        (Mark.FROZEN, b"t%c\0\0\0%b" % (len(ELSEWHERE), ELSEWHERE), {"idna.core"}),
        (Mark.FROZEN, b"\xfa\x38" + LIKE_A_LENGTH, {"idna.z0" + LIKE_A_LENGTH[8:-3].decode()}),
        (Mark.FROZEN, b"z\x19Look at what idna/core.py", set()),
        (Mark.FROZEN, b"\0idna/core.py\0\xda\x09idna/core.py", set()),
        (Mark.NUITKA, b"\0.bytecode\0x" + entry(b".bytecode") + entry(b"") + entry(b"six"),
         {".bytecode", "six"}),
        (Mark.NUITKA, entry(b".bytecode", BYTECODE) + entry(b""),
         {".bytecode", "idna.core", LONG.removesuffix(".py").replace("/", ".")}),
    ],
)  # fmt: skip
def test_names_of_what_is_held(mark: Mark, content: bytes, names: set[str]) -> None:
    found = modules_in(memoryview(b"\x7fELF" + content + b"\0 more"), {mark})
    assert found.readable
    assert names <= found.names
    assert not {name for name in found.names - names if "idna" in name}


def test_a_table_that_cannot_be_read_may_hold_everything() -> None:
    for table in (b"", entry(b".bytecode"), entry(b".bytecode") + b"\0\xff\xff\xff\x7f"):
        assert not modules_in(memoryview(b"__nuitka_version__\0" + table), {Mark.NUITKA}).readable


def place(mark: Mark = Mark.CYTHON) -> Image:
    known = image(*FILES, PROGRAM)
    return Image(known.root, natives={PROGRAM: Native(Form.PROGRAM, frozenset([mark]), (0,))})


def held(*names: str, readable: bool = True) -> set[str]:
    where, artifacts = place(), [SIX, IDNA, DEBIAN, deb("bash", "/bin/bash")]
    found = {PROGRAM: Modules(frozenset(names), readable)}
    done = with_modules(artifacts, assign(artifacts, where), where, found)
    return {package.name for package in done if PROGRAM in package.files}


@pytest.mark.parametrize("name", ["idna.core", "shop._vendor.idna.core"])
def test_what_holds_a_module_belongs_to_its_packages(name: str) -> None:
    assert held(name) == {"idna", "python3-idna"}


def test_ones_own_modules_add_nothing() -> None:
    assert held("shop", "shop.core", "idna.other", "sixty", "encodings.six") == set()
    assert held(readable=False) == {"six", "idna", "python3-idna"}


def test_the_modules_of_the_package_that_has_the_file_are_no_copies_of_others() -> None:
    """mypy's ``mypy.build`` and uvloop's ``uvloop.dns``."""
    listed = ("shop/idna.py", "shop/six.py", "shop/sub/idna/__init__.py", "shop/sub/idna/core.py")
    shop = artifact("python", "shop", files=(*listed, "shop.so"))
    root = image(*FILES, *(f"{SITE}/{name}".encode() for name in (*listed, "shop.so"))).root
    path = f"{SITE}/shop.so".encode()
    there = Image(root, natives={path: Native(Form.PROGRAM, frozenset([Mark.MYPYC]), (0,))})
    artifacts = [SIX, IDNA, shop]

    def holding(*names: str) -> set[str]:
        modules = {path: Modules(frozenset(names))}
        packages = with_modules(artifacts, assign(artifacts, there), there, modules)
        return {package.name for package in packages if path in package.files}

    assert holding("shop.idna") == {"shop"}
    assert holding("shop.six") == {"shop", "six"}  # a package of one module, moved
    assert holding("shop.sub.idna", "shop.sub.idna.core") == {"shop", "idna"}
    assert holding("shop.sub.idna.core") == {"shop", "idna"}
    assert holding("other.idna") == {"shop", "idna"}  # no module of its own
    assert holding("idna") == {"shop", "idna"}


def test_bytecode_without_a_source_and_vendored_modules_are_told_by_their_path() -> None:
    frozen, beside, own = b"/srv/lib/idna/core.pyc", b"/srv/lib/six.pyc", b"/srv/lib/shop.pyc"
    cached = b"/srv/lib/__pycache__/idna.cpython-311.pyc"
    edited = b"/srv/shop/_vendor/six.py"
    others = (b"/srv/lib/six.py", b"/srv/shop/six.py")
    where = image(*FILES, frozen, beside, edited, own, cached, *others)
    artifacts = [SIX, IDNA]
    packages = assign(artifacts, where)
    done = with_modules(artifacts, packages, where, by_path(packages, where))
    added = {package.name: set(package.files) - set(before.files)
             for package, before in zip(done, packages, strict=True)}  # fmt: skip
    assert added == {"six": {edited}, "idna": {frozen}}


def test_only_what_no_distribution_packaged_is_read() -> None:
    assert set(wanted(place(), set())) == {PROGRAM}
    assert not wanted(place(), {PROGRAM})
    assert not wanted(place(Mark.RUST), set())


def test_names_of_many_parts_take_no_memory() -> None:
    names = frozenset("a." * 490 + f"b{number}" for number in range(200))
    place = image(f"{SITE}/six.py".encode(), b"app")
    six = artifact("python", "six", files=["six.py"], at=[f"{SITE}/six.dist-info/METADATA"])
    packages = assign([six], place)
    tracemalloc.start()
    with_modules([six], packages, place, {b"/app": Modules(names)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_too_many_files_that_may_hold_all_leave_all_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vexstream.python_modules.MAX_PAIRS", 3)
    place = image(*FILES, b"usr/bin/other")
    artifacts = [SIX, IDNA, deb("other", "/usr/bin/other")]
    found = {f"/app/{n}.so".encode(): Modules(frozenset(), readable=False) for n in range(2)}
    mapped = with_modules(artifacts, assign(artifacts, place), place, found)
    assert [bool(package.unobservable) for package in mapped] == [True, True, False]
    mapped = with_modules(artifacts[:1], assign(artifacts[:1], place), place, found)
    assert mapped[0].unobservable is None
