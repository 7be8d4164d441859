"""What makers of single programs leave in them; tests/integration/test_holders.py has real ones."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.scanner import layers
from services.scanner.layers import unpack
from vexstream.filekinds import SHARED_CLASSES

PLENTY = 64 * 1024 * 1024
ELF = b"\x7fELF" + b"\0" * 70_000
DOTNET = bytes.fromhex("8b1202b96a612038727b930214d7a03213f5b9e6efae3318ee3b2dce24b36aae")
FUSE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:"


def held(folder: Path, content: bytes, name: str = "app/shop", *, mode: int = 0o755) -> str | None:
    path = folder / "layer"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        archive.addfile(info, io.BytesIO(content))
    return unpack([path], PLENTY).holders.get(b"/" + name.encode())


@pytest.mark.parametrize(
    ("content", "language"),
    [
        (ELF + FUSE + b"1" + ELF, "npm"),
        (ELF + FUSE + b"0" + ELF, None),
        (ELF + b"pkg/prelude/bootstrap.js", "npm"),
        (ELF + b"\n---- Bun! ----\n" + b"12345678", "npm"),
        (ELF + b"\n---- Bun! ----\n" + b"12345678" + ELF, None),  # Bun itself
        (b"\x19\xda\x43\x01" + b"x" * 300, "npm"),
        (ELF + b"MEI\x0c\x0b\x0a\x0b\x0e" + b"x" * 80, "python"),
        (ELF + b"KAY\x28\xb5\x2f\xfd" + b"x" * 80, "python"),
        (ELF + b"x" * 80 + b"\nPAR.pm\n", "perl"),
        (ELF + b"\nPAR.pm\n" + b"x" * 80, None),
        (b"#!/usr/bin/perl\n" + b"x" * 300 + b"\nPAR.pm\n", "perl"),
        (ELF + b"pyembed\x03" + b"x" * 80, "python"),
        (ELF + b"\0NUITKA_ONEFILE_PARENT\0" + b"KAX" + ELF, "python"),
        (ELF + b"d3n0l4nd" + bytes(16), "npm"),
        (ELF + b"d3n0l4nd" + ELF, None),  # Deno itself
        (ELF + b"\0.svm_heap\0" + b"x" * 80, "java-archive"),
        (b"#!/usr/bin/env python3\nPK\x03\x04" + b"x" * 300, "python"),
        (b"#!/usr/bin/env python3\nimport sys\n" + b"x" * 300, None),
        (ELF + b"\0\x10\0\0\0\0\0\0" + DOTNET, "dotnet"),
        (ELF + b"\0" * 8 + DOTNET, None),
        (ELF + b"\0__modules\0__managedcode\0.hydrated\0", "dotnet"),
        (ELF + b"\0__managedcode_a\0", None),
        (ELF + b"<nexe~~sentinel>" + b"x" * 16, "npm"),
        (ELF + b"/__tebako_memfs__/local", "gem"),
        (b"#!/usr/bin/env php\n<?php\n" + b"x" * 300 + b"\3\0\0\0GBMB", "php-composer"),
        (b"<?php Phar::mapPhar('composer.phar');" + b"x" * 300 + b"\3\0\0\0GBMB", None),
        (b"<?php\n" + b"x" * 300 + b"GBMB;", None),
        (b"\x1bLua\x54\0" + b"x" * 300, "lua"),
        (b"\x1bLJ\x02" + b"x" * 300, "lua"),
        (b"-- \x1bLua" + b"x" * 300, None),
        (b"FUSE" + FUSE + b"1" + ELF, None),
        (b"YARB\3\0\0\0" + b"x" * 300, "gem"),
        (ELF + b"\3\0\0\0GBMB", "php-composer"),
        (ELF + b"\3\0\0\0GBMB" + ELF, None),
        (b"<?php\nnamespace A\\B {}\nnamespace C;\nnamespace D\n{}" + b"x" * 300, "php-composer"),
        (
            b"<?php\nnamespace A\\B;\nnamespace A\\B;\n// namespace C;\nnamespace {}" + b"x" * 300,
            None,
        ),
        (b'#!/usr/bin/perl\n$fatpacked{"HTTP/Tiny.pm"} = ' + b"x" * 300, "perl"),
        (ELF + b"%%glue:L" + b"\1" * 16, "lua"),
        (ELF + b"%%glue:L" + b"\1" * 99, None),
        (b"#!/usr/bin/lua\npackage.preload[ 'say' ] = function() end\n" + b"x" * 300, "lua"),
        (b"#!/usr/bin/lua\nprint(package.preload.say)\n" + b"x" * 300, None),
        (b"\xa2\xab\x0b\xf0" + b"x" * 300, SHARED_CLASSES),
        (b"\xa8\xab\x0b\xf0" + b"x" * 300, SHARED_CLASSES),
    ],
)
def test_a_holder_is_known_by_its_mark(tmp_path: Path, content: bytes, language: str) -> None:
    assert held(tmp_path, content) == language


def test_a_mark_between_two_parts_is_found(tmp_path: Path) -> None:
    for before in range(layers._STEP - 60, layers._STEP + 1, 6):
        content = ELF + b"\0" * (before - len(ELF)) + b"\1" + b"\0" * 7 + DOTNET + ELF
        assert held(tmp_path, content) == "dotnet"


def zipped(*names: str, before: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 300)
    return before + content.getvalue()


@pytest.mark.parametrize("name", ["app.pyz", "app.zip", "layer", "app.pex"])
def test_python_runs_any_zip_with_modules_without_leave_to_execute(
    tmp_path: Path, name: str
) -> None:
    assert held(tmp_path, zipped("a.txt", "shop/core.py"), name, mode=0o644) == "python"
    assert held(tmp_path, zipped("core.pyc", before=b"#!/bin/sh\n"), name, mode=0o644) == "python"
    assert held(tmp_path, zipped("a.py.txt", ".pyx"), name) is None
    assert held(tmp_path, zipped("shop/core.py"), "jython.jar") is None


@pytest.mark.parametrize(
    ("names", "language"),
    [
        (("shop/core.py", "EGG-INFO/PKG-INFO"), "egg"),
        (("EGG-INFO/PKG-INFO", "shop/core.pyc"), "egg"),
        (("EGG-INFO/PKG-INFO", "shop/_vendor/six.py"), "python"),
        (("EGG-INFO/PKG-INFO", "requests/packages/urllib3/util.py", "shop/core.py"), "python"),
        (("shop/core.py",), "python"),  # nothing says that all of it is one package
        (("shop/core.py", "Shop.pm", "EGG-INFO/PKG-INFO"), "egg"),
        ((*(f"shop/{n:06}.py" for n in range(5000)), "EGG-INFO/PKG-INFO"), "egg"),
    ],
)
def test_a_zipped_egg_holds_no_package_but_its_own(
    tmp_path: Path, names: tuple[str, ...], language: str | None
) -> None:
    path = "opt/lib/python3.11/site-packages/shop-1.0-py3.11.egg"
    assert held(tmp_path, zipped(*names), path, mode=0o644) == language


def test_zip_archives_in_programs_and_of_erlang(tmp_path: Path) -> None:
    assert held(tmp_path, zipped("shop/core.py", before=ELF)) == "python"
    assert held(tmp_path, zipped("shop.html", before=ELF)) is None
    escript = zipped("shop/ebin/shop.beam", before=b"#!/usr/bin/env escript\n")
    assert held(tmp_path, escript) == "erlang"
    assert held(tmp_path, zipped("cowboy-2/ebin/cowboy.beam"), "plugins/cowboy.ez") == "erlang"


def test_what_upx_has_packed_may_be_of_go(tmp_path: Path) -> None:
    packed = ELF[:200] + b"UPX!" + b"\0" * 9000
    assert held(tmp_path, packed) == "go-module"
    assert held(tmp_path, ELF + b"\0" * 9000 + b"UPX!") is None
    assert held(tmp_path, packed + b"MEI\x0c\x0b\x0a\x0b\x0e") == "python"


def test_modules_of_lua_in_one_script(tmp_path: Path) -> None:
    script = b'package.preload["a.b"]=(function (...)\n' + b"-- padding\n" * 30
    assert held(tmp_path, script, "srv/app.lua", mode=0o644) == "lua"
    assert held(tmp_path, script, "srv/app.txt", mode=0o644) is None


def test_archives_of_perl(tmp_path: Path) -> None:
    assert held(tmp_path, zipped("lib/Text/Wrap.pm"), "app/shop.par") == "perl"
    assert held(tmp_path, zipped("lib/Text/Wrap.txt"), "app/shop.par") is None


@pytest.mark.parametrize("before", [b"", ELF])
def test_modules_of_perl_that_a_package_of_another_language_brings(
    tmp_path: Path, before: bytes
) -> None:
    """As PyPI's pyrouge does; in the second archive they are read before the others come."""
    small, large = ("rouge/DOM.pm", "rouge/core.py"), [f"rouge/{n:06}.pm" for n in range(5000)]
    assert held(tmp_path, zipped(*small, before=before)) == "python"
    assert held(tmp_path, zipped(*large, "rouge/core.py", before=before)) == "python"
    assert held(tmp_path, zipped("rouge/DOM.pm", "shop.beam", before=before)) == "erlang"
    assert held(tmp_path, zipped("rouge/DOM.pm", before=before)) == "perl"


@pytest.mark.parametrize(
    ("content", "language"),
    [
        (b"\0sun.tools.jar\0xjava.util.jar\0", None),
        (b"\0/srv/app.jar\0", SHARED_CLASSES),
        (b"\0shop-1.0.jar\0", SHARED_CLASSES),
    ],
)
def test_the_jdks_own_archive_of_classes_made_anew_for_an_application(
    tmp_path: Path, content: bytes, language: str | None
) -> None:
    archive = b"\xa2\xab\x0b\xf0" + b"x" * 300 + content + b"x" * 300
    assert held(tmp_path, archive, "opt/jdk/lib/server/classes.jsa") == language


def test_a_program_is_one_without_leave_to_execute_and_of_any_size(tmp_path: Path) -> None:
    content = b"\x7fELF" + b"\0" * 300 + b"\0__managedcode\0"
    assert held(tmp_path, content, "libshop.so", mode=0o644) == "dotnet"
    heap = ELF + b"\0.svm_heap\0"
    assert held(tmp_path, heap, "opt/graalvm/lib/libshop.so", mode=0o644) == "java-archive"
    assert held(tmp_path, heap, "opt/graalvm/lib/libjvmcicompiler.so") is None


def test_what_bytenode_compiled_is_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    with tarfile.open(path, "w") as archive:
        for name in ("srv/app.jsc", "srv/node_modules/x/x.jsc"):
            info = tarfile.TarInfo(name)
            info.size = 300
            archive.addfile(info, io.BytesIO(b"\xa3" * 300))
    assert unpack([path], PLENTY).bundles == {b"/srv/app.jsc": True}
