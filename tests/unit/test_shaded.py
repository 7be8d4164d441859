"""Archives that hold classes of packages: tests/integration/test_shaded_jars.py has real ones."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.scanner import classes
from services.scanner.layers import unpack
from tests.unit.classfiles import class_file
from tests.unit.images import artifact, deb
from vexstream import shaded
from vexstream.ownership import assign
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
HOME = "org/acme/lib"
TELLING = ("LentReader", "LentWriter", "LentParser", "LentPrinter")


def jar(
    *members: str,
    nested: Mapping[str, bytes] | None = None,
    classes: Mapping[str, bytes] | None = None,
    before: bytes = b"",
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in members:
            archive.writestr(name, name * 20)
        for name, whole in (classes or {}).items():
            archive.writestr(name, whole)
        for name, inner in (nested or {}).items():
            archive.writestr(name, inner, zipfile.ZIP_DEFLATED)
    return before + content.getvalue()


def below(home: str, names: Iterable[str] = TELLING) -> tuple[str, ...]:
    return tuple(f"{home}/{name}.class" for name in names)


def lent(at: str = "/opt/lent-1.0.jar", *, name: str = "lent", within: str = "") -> Artifact:
    return replace(artifact("java-archive", name, at=(at,)), id=f"{name}@{at}", within=within)


def scanned(
    folder: Path, files: Mapping[str, bytes], artifacts: Iterable[Artifact]
) -> tuple[Package, ...]:
    layer = folder / "layer"
    with tarfile.open(layer, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found, image = list(artifacts), unpack([layer], PLENTY).image()
    packages = assign(found, image)
    assert shaded.is_wanted(packages, image)
    read = classes.read(image, [layer], PLENTY, folder)
    return shaded.with_classes(found, packages, image, read.units, read.unread)


def holds(folder: Path, name: str, content: bytes) -> bool:
    """Whether a file becomes one of a package with four classes."""
    files = {"opt/lent-1.0.jar": jar(*below(HOME)), name: content}
    [found] = scanned(folder, files, [lent()])
    assert found.unobservable is None
    assert set(found.files) <= {b"/opt/lent-1.0.jar", b"/" + name.encode()}
    return len(found.files) > 1


@pytest.mark.parametrize(
    ("path", "yes"),
    [
        (f"{HOME}/LentReader.class", True),
        (f"{HOME}/LentReader$1.class", True),
        (f"META-INF/versions/17/{HOME}/LentReader.class", True),
        (f"WEB-INF/classes/{HOME}/LentReader.class", True),
        (f"inst/{HOME}/LentReader.classdata", True),
        (f"{HOME}/Other.class", False),
        (f"{HOME}/LentReader.txt", False),
        ("acme/lib/LentReader.class", False),
        ("LentReader.class", False),
    ],
)
def test_one_class_under_its_own_name_is_a_copy(tmp_path: Path, path: str, yes: bool) -> None:
    assert holds(tmp_path, "app/shop", jar("com/shop/Main.class", path)) is yes


def test_what_stands_before_the_archive_does_not_matter(tmp_path: Path) -> None:
    path = f"classes/{HOME}/LentReader.class"
    assert holds(tmp_path, "opt/shop.jmod", jar(path, before=b"JM\1\0"))
    assert holds(tmp_path, "opt/shop", jar(path[8:], before=b"#!/bin/sh\nexec java -jar $0\n"))


@pytest.mark.parametrize(
    ("names", "yes"),
    [
        (TELLING, True),
        ((*TELLING, "Main", "Own", "ShopWindow", "ShopKeeper"), True),
        (TELLING[:3], False),
        ((*TELLING[:3], "Utils", "Builder", "Main"), False),
    ],
)
def test_a_few_telling_names_elsewhere_are_a_relocated_copy(
    tmp_path: Path, names: tuple[str, ...], yes: bool
) -> None:
    assert holds(tmp_path, "app/shop.jar", jar(*below("com/shop/x/deep", names))) is yes


def test_a_few_of_many_classes_on_both_sides_are_no_copy(tmp_path: Path) -> None:
    more = tuple(f"MoreLent{n}Things" for n in range(8))
    own = tuple(f"ShopOwn{n}Things" for n in range(8))
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME, (*TELLING, *more))),
        "app/shop.jar": jar(*below("com/shop", (*TELLING, *own))),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (b"/opt/lent-1.0.jar",)


def test_names_of_many_directories_tell_nothing(tmp_path: Path) -> None:
    homes = [f"org/acme/{n}" for n in range(9)]
    files = {
        "opt/lent-1.0.jar": jar(*(path for home in homes for path in below(home))),
        "app/shop.jar": jar(*below("com/shop")),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (b"/opt/lent-1.0.jar",)


def test_folders_of_classes_are_searched(tmp_path: Path) -> None:
    web = "srv/shop/WEB-INF/classes"
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        f"{web}/{HOME}/LentReader.class": b"x" * 300,
        f"{web}/com/shop/Main.class": b"x" * 300,
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (b"/opt/lent-1.0.jar", f"/{web}/{HOME}/LentReader.class".encode())


def test_archives_in_archives_are_searched_and_told_apart(tmp_path: Path) -> None:
    inner = jar(*below(HOME))
    war = jar("WEB-INF/classes/com/shop/Main.class", nested={"WEB-INF/lib/lent-1.0.jar": inner})
    files = {
        "opt/shop.war": war,
        "opt/all.ear": jar(nested={"a/shop.war": jar(nested={"lib/x.jar": inner})}),
        "opt/main.jar": jar("com/shop/Main.class", "com/shop/More.class"),
    }
    within = "WEB-INF/lib/lent-1.0.jar:org.acme:deeper"
    shop, found = scanned(
        tmp_path, files, [lent("/opt/shop.war", name="shop"), lent("/opt/shop.war", within=within)]
    )
    assert found.files == (b"/opt/all.ear", b"/opt/shop.war")
    assert shop.files == (b"/opt/main.jar", b"/opt/shop.war")


def test_another_version_and_the_original_are_not_theirs(tmp_path: Path) -> None:
    others = [f"Other{name}" for name in TELLING]
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        "opt/lent-2.0.jar": jar(*below(HOME), *below(HOME, ["Newer"])),
        "opt/shop.jar": jar(
            *below(HOME), *below("com/shop", ["Main"]), *below("x/y/org/z", others)
        ),
        "opt/z.jar": jar(*below("org/z", [*others, "Newer"])),
    }
    published = [replace(lent(), published=True), replace(lent("/opt/lent-2.0.jar"), version="2")]
    first, second, shop = scanned(tmp_path, files, [*published, lent("/opt/shop.jar", name="shop")])
    assert first.files == (b"/opt/lent-1.0.jar", b"/opt/shop.jar")
    assert second.files == (b"/opt/lent-2.0.jar", b"/opt/shop.jar")
    assert shop.files == (b"/opt/lent-2.0.jar", b"/opt/shop.jar")


def test_a_jar_of_nothing_but_its_classes_is_a_copy_unless_it_was_published(tmp_path: Path) -> None:
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME), *below("org/acme/more")),
        "opt/mini.jar": jar(*below(HOME)),
    }
    mini = lent("/opt/mini.jar", name="mini")
    assert scanned(tmp_path, files, [lent(), mini])[0].files == (
        b"/opt/lent-1.0.jar", b"/opt/mini.jar"
    )  # fmt: skip
    found = scanned(tmp_path, files, [lent(), replace(mini, published=True)])[0]
    assert found.files == (b"/opt/lent-1.0.jar",)


def test_the_jdks_own_classes_are_nobodys_copies(tmp_path: Path) -> None:
    assert not holds(tmp_path, "opt/rt.jar", jar("java/lang/Object.class", *below(HOME)))


def test_renamed_classes_may_be_anybodys(tmp_path: Path) -> None:
    names = [chr(ord("a") + n) for n in range(25)]
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        "app/shop.jar": jar(*below("a/a", names), *below("com/shop", ["Main"])),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable == "/app/shop.jar may hold a copy of it: its classes are renamed"
    [own] = scanned(tmp_path, {"app/shop.jar": files["app/shop.jar"]}, [lent("/app/shop.jar")])
    assert own.unobservable is None


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("MAX_MEMBERS", 6, "the image's archives have too many members"),
        ("MAX_CLASSES", 6, "the image's archives have too many classes"),
        ("MAX_NESTED_BYTES", 100, "a/b.jar in it has more than 0 MiB"),
        ("MAX_ALL_NESTED_BYTES", 100, "the image's archives have too many archives in them"),
        ("MAX_DEPTH", 0, "the image's archives have too many archives in them"),
    ],
)
def test_past_a_limit_silence_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, why: str
) -> None:
    monkeypatch.setattr(f"vexstream.classes.{limit}", value)
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        "opt/other.jar": jar(*below("com/shop"), nested={"a/b.jar": jar(*below("com/b"))}),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable == f"/opt/other.jar may hold a copy of it: {why}"


def test_too_much_to_compare_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexstream.shaded.MAX_WORK", 3)
    files = {"opt/lent-1.0.jar": jar(*below(HOME)), "opt/other.jar": jar(*below("com/shop"))}
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable is not None
    assert "too many classes to compare" in found.unobservable


def test_copies_of_one_jar_are_compared_once_and_all_of_them_are_files(tmp_path: Path) -> None:
    inner = {"lib/lent.jar": jar(*below(HOME))}
    wars = {f"opt/{n}.war": jar(f"WEB-INF/{n}", nested=inner) for n in range(5)}
    files = {"opt/lent-1.0.jar": jar(*below(HOME), *below(HOME, ["More"])), **wars}
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (*(f"/opt/{n}.war".encode() for n in range(5)), b"/opt/lent-1.0.jar")


def test_a_damaged_archive_is_told_of(tmp_path: Path) -> None:
    whole = jar(*below("com/shop"))
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        "opt/cut.jar": whole.replace(b"PK\1\2", b"PK\1\3"),
        "opt/short.jar": whole[: len(whole) // 2],
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable == "/opt/cut.jar may hold a copy of it: its directory is damaged"


def test_copies_of_what_cannot_be_read_itself_are_not_ruled_out(tmp_path: Path) -> None:
    """Where a package's own classes are not known, nothing tells which archives hold copies."""
    shop = jar("com/shop/Shop.class", nested={"lib/lent.jar": jar(*below(HOME))})
    damaged = shop.replace(b"lib/lent.jar", b"lib/LENT.jar", 1)
    packed = bytearray(shop)
    at = packed.find(b"PK\1\2", packed.find(b"PK\1\2") + 1)
    packed[at + 10] = 99  # how it is packed
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)).replace(b"PK\1\2", b"PK\1\3"),
        "opt/shop.jar": bytes(packed), "opt/copy.jar": jar(*below(HOME)), "opt/d.jar": damaged,
    }  # fmt: skip
    within = [lent("/opt/shop.jar", name="shop"),
              lent("/opt/shop.jar", name="inner", within="lib/lent.jar")]  # fmt: skip
    own, shop_, inner = (p.unobservable for p in scanned(tmp_path, files, [lent(), *within]))
    assert own == "which classes /opt/lent-1.0.jar has of it is not known: its directory is damaged"
    assert shop_ == "/opt/lent-1.0.jar may hold a copy of it: its directory is damaged"
    assert inner is not None
    assert inner.startswith("which classes /opt/shop.jar has of it is not known: lib/lent.jar")


@pytest.mark.parametrize("more", [-1, 1])
def test_an_archive_in_another_that_is_longer_or_shorter_than_it_says_is_told_of(
    tmp_path: Path, more: int
) -> None:
    whole = bytearray(jar(nested={"lent.jar": jar(*below(HOME))}))
    at = whole.find(b"PK\1\2") + 24
    size = int.from_bytes(whole[at : at + 4], "little")
    whole[at : at + 4] = (size + more).to_bytes(4, "little")
    files = {"opt/lent-1.0.jar": jar(*below(HOME)), "opt/shop.jar": bytes(whole)}
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable is not None
    assert "has not the size that it says" in found.unobservable


def test_jars_of_the_operating_system_may_be_copied_too(tmp_path: Path) -> None:
    files = {"usr/share/java/lent.jar": jar(*below(HOME)), "usr/bin/tool": b"x",
             "opt/shop.jar": jar(*below(HOME)).replace(b"PK\1\2", b"PK\1\3")}  # fmt: skip
    debs = [deb("liblent-java", "/usr/share/java/lent.jar"), deb("tool", "/usr/bin/tool")]
    jars, tool = scanned(tmp_path, files, debs)
    assert jars.unobservable == "/opt/shop.jar may hold a copy of it: its directory is damaged"
    assert tool.unobservable is None


def test_classes_that_cannot_be_read_count_for_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To unpack them costs the same."""
    monkeypatch.setattr("vexstream.classes.MAX_ALL_CLASS_BYTES", 4000)
    whole = bytearray(jar(*below("com/shop")))
    at = -1
    while (at := whole.find(b"PK\1\2", at + 1)) >= 0:
        whole[at + 24 : at + 28] = (3000).to_bytes(4, "little")
    files = {"opt/lent-1.0.jar": jar(*below(HOME)), "opt/shop.jar": bytes(whole)}
    [found] = scanned(tmp_path, files, [lent()])
    assert (
        found.unobservable
        == "/opt/shop.jar may hold a copy of it: the image's classes are too large"
    )


def test_renamed_classes_are_a_quarter_of_all(tmp_path: Path) -> None:
    names = [chr(ord("b") + n) for n in range(24)]
    for others, renamed in ((72, True), (73, False)):
        main = [f"Main{n}Class" for n in range(others)]
        files = {"opt/lent-1.0.jar": jar(*below(HOME)),
                 "app/shop.jar": jar(*below("a/a", names), *below("com/shop", main))}  # fmt: skip
        [found] = scanned(tmp_path, files, [lent()])
        assert (found.unobservable is not None) is renamed


def test_the_sign_of_an_archives_end_in_another_file_is_no_archive(tmp_path: Path) -> None:
    content = b"\x7fELF" + b"x" * 300 + b"PK\5\6" + b"y" * 99
    assert not holds(tmp_path, "usr/lib/phar.so", content)
    assert not holds(tmp_path, "opt/shop.jar", jar(nested={"a.zip": content}))


def test_what_stands_behind_an_archive_does_not_matter(tmp_path: Path) -> None:
    for after in (b"x" * 300, b"PK\5\6" + b"y" * 99, b"PK\5\6"):
        assert holds(tmp_path, "opt/shop.jar", jar(f"{HOME}/LentReader.class") + after)


MEMBERS = ("readAll", "skipBlanks", "parse", "unread")
SAID = tuple(f"There is no block {n} in the file" for n in range(6))


def lent_class(name: str, members: Iterable[str] = MEMBERS, said: Iterable[str] = SAID) -> bytes:
    return class_file(name, tuple(members), tuple(said))


def two_jars(other: Mapping[str, bytes]) -> dict[str, bytes]:
    own = {"org/acme/lib/Blocks.class": lent_class("org/acme/lib/Blocks")}
    return {"opt/lent-1.0.jar": jar(classes=own), "app/shop.jar": jar(classes=other)}


@pytest.mark.parametrize(
    ("path", "members", "said", "yes"),
    [
        ("com/shop/x/Blocks", MEMBERS, SAID[:1], False),
        ("com/shop/x/Blocks", MEMBERS, SAID, True),  # relocated
        ("com/shop/x/Other", MEMBERS, SAID[:5], False),
        ("org/acme/lib/x/Other", MEMBERS, SAID, False),  # of one project
        ("com/shop/x/Blocks", (*MEMBERS, "more"), SAID[:5], False),
        ("q/z", ("q", "r", "s"), SAID, True),  # renamed
        ("dictionary/Word", ("q", "r", "s"), SAID, True),
        ("q/z", ("q", "r", "s"), SAID[:5], False),
    ],
)
def test_a_class_elsewhere_is_told_by_what_is_in_it(
    tmp_path: Path, path: str, members: Iterable[str], said: Iterable[str], yes: bool
) -> None:
    files = two_jars({f"{path}.class": lent_class(path, members, said)})
    [found] = scanned(tmp_path, files, [lent()])
    assert (b"/app/shop.jar" in found.files) is yes
    assert found.unobservable is None


def test_a_single_relocated_class_without_sentences(tmp_path: Path) -> None:
    files = {
        "opt/lent-1.0.jar": jar(classes={"org/a/Lent.class": lent_class("org/a/Lent", said=())}),
        "app/shop.jar": jar(classes={"x/y/Lent.class": lent_class("x/y/Lent", said=())}),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (b"/app/shop.jar", b"/opt/lent-1.0.jar")


def test_classes_in_folders_are_looked_into(tmp_path: Path) -> None:
    files = two_jars({"com/shop/Main.class": class_file("com/shop/Main")})
    files["srv/classes/q/z.class"] = lent_class("q/z", ["q", "r"])
    files["srv/classes/com/shop/Main.class"] = class_file("com/shop/Main") + bytes(300)
    [found] = scanned(tmp_path, files, [lent()])
    assert found.files == (b"/opt/lent-1.0.jar", b"/srv/classes/q/z.class")


def test_what_many_packages_say_tells_nothing(tmp_path: Path) -> None:
    files = two_jars({"q/z.class": lent_class("q/z", ["q"])})
    artifacts = [lent()]
    for n in range(3):
        files[f"opt/n{n}.jar"] = jar(classes={f"n{n}/N.class": lent_class(f"n{n}/N", [f"n{n}"])})
        artifacts.append(lent(f"/opt/n{n}.jar", name=f"n{n}"))
    assert scanned(tmp_path, files, artifacts)[0].files == (b"/opt/lent-1.0.jar",)


def test_another_version_says_the_same_and_is_not_theirs(tmp_path: Path) -> None:
    files = two_jars({"org/acme/lib/Blocks.class": lent_class("org/acme/lib/Blocks")})
    second = replace(lent("/app/shop.jar"), version="2")
    for package in scanned(tmp_path, files, [lent(), second]):
        assert len(package.files) == 1


def test_one_renamed_class_may_be_anybodys(tmp_path: Path) -> None:
    others = [f"Shop{n}Window" for n in range(99)]
    files = {
        "opt/lent-1.0.jar": jar(*below(HOME)),
        "app/shop.jar": jar(*below("a/a", "a"), *below("com/shop", others)),
    }
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable == "/app/shop.jar may hold a copy of it: its classes are renamed"


def test_too_much_in_classes_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexstream.classes.MAX_ALL_CLASS_BYTES", 700)
    files = two_jars({f"q/z{n}.class": lent_class("q/z") for n in range(9)})
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable == (
        "/app/shop.jar may hold a copy of it: the image's classes are too large"
    )


def jimage(paths: Iterable[tuple[str, str, str]], order: str = "<") -> bytes:
    """As jlink writes it, the table by hash in any order."""
    strings, places, table = bytearray(b"\0class\0" + bytes(300)), bytearray(b"\0"), []
    for module, parent, base in paths:
        table.append(len(places))
        for kind, name in ((1, module), (2, parent), (3, base)):
            places += bytes([kind << 3 | 3]) + struct.pack(">I", len(strings))
            strings += name.encode() + b"\0"
        places += b"\x20\x01\x00"
    head = struct.pack(f"{order}7I", 0xCAFEDADA, 1 << 16, 0, len(table), len(table),
                       len(places), len(strings))  # fmt: skip
    offsets = struct.pack(f"{order}{len(table)}I", *table)
    return head + bytes(4 * len(table)) + offsets + bytes(places) + bytes(strings)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_runtime_image_is_searched_below_modules_that_are_not_the_jdks(
    tmp_path: Path, order: str
) -> None:
    own = ("java.base", "java/lang", "Object")
    lib = "opt/jre/lib/modules"
    assert holds(tmp_path, lib, jimage([own, ("acme.lib", HOME, "LentReader")], order))
    assert not holds(tmp_path, lib, jimage([own, ("java.xml", HOME, "LentReader")], order))
    assert not holds(tmp_path, lib, jimage([own, ("acme.lib", HOME, "Else")], order))


def test_a_runtime_image_of_an_unknown_form_is_told_of(tmp_path: Path) -> None:
    image = bytearray(jimage([("a", HOME, "A" * 300)]))
    image[6] = 9
    files = {"opt/lent-1.0.jar": jar(*below(HOME)), "opt/modules": bytes(image)}
    [found] = scanned(tmp_path, files, [lent()])
    assert found.unobservable is not None
    assert "unknown form" in found.unobservable
