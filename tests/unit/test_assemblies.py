"""Metadata of .NET's assemblies, and who holds whose; test_merged_assemblies.py has real ones."""

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from services.scanner import assemblies as reading
from services.scanner.layers import unpack
from tests.unit.assemblies import assembly
from tests.unit.images import artifact, deb
from vexstream import merged
from vexstream.assemblies import Assembly, AssemblyError, read
from vexstream.own import distributed_files
from vexstream.ownership import assign
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
TYPES = ("Newtonsoft.Json.JsonConvert", "Newtonsoft.Json.Linq.JObject")
JSON = assembly("Newtonsoft.Json.dll", TYPES, ["Newtonsoft.Json.Utilities.Inner"])
DEPS = {
    "targets": {".NETCoreApp,Version=v8.0": {
        "Shop/1": {"runtime": {"Shop.dll": {}}},
        "Newtonsoft.Json/1": {"runtime": {"lib/net6.0/Newtonsoft.Json.dll": {}}},
        "Other/1": {"runtime": {"lib/Other.dll": {}}}}},
    "libraries": {"Shop/1": {"type": "project"}, "Newtonsoft.Json/1": {"type": "package"},
                  "Other/1": {"type": "package"}},
}  # fmt: skip


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def parsed(content: bytes) -> Assembly:
    found = read(memoryview(content))
    assert found is not None
    return found


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("references", [0, 3, 1 << 14])
def test_types_by_their_whole_names(plus: bool, wide: bool, references: int) -> None:
    content = assembly("Shop.dll", TYPES, ["A.Inner"], plus=plus, wide=wide, references=references)
    found = parsed(content)
    assert found.module == b"shop.dll"
    assert found.public == {name.encode() for name in TYPES}
    assert found.types == found.public | {b"A.Inner"}
    assert not found.renamed


def test_libraries_among_the_resources() -> None:
    names = ["costura.newtonsoft.json.dll.compressed", "Shop.lib.Other.DLL", "Shop.help.txt"]
    found = parsed(assembly("Shop.exe", resources=names))
    assert found.embedded == {b"costura.newtonsoft.json.dll", b"shop.lib.other.dll"}


@pytest.mark.parametrize("align", [1, 4, 8])
@pytest.mark.parametrize("packed", [bytes, _deflated, zlib.compress, gzip.compress])
def test_libraries_that_lie_in_resources_under_any_name(
    align: int, packed: Callable[[bytes], bytes]
) -> None:
    contents = [b"text", b"", packed(JSON), b"MZ but no program", b"\x78\x9c no zlib"]
    content = assembly("Shop.exe", ["Shop.Program"], contents=contents, align=align)
    outer = parsed(assembly("Outer.exe", contents=[b"odd", packed(content)], align=align))
    for found in (parsed(content), outer):
        assert b"newtonsoft.json.dll" in found.embedded
        assert {name.encode() for name in TYPES} <= found.types
    assert outer.public == set()


def test_resources_without_end_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = JSON
    for _ in range(5):
        deep = assembly("Shop.exe", contents=[deep])
    with pytest.raises(AssemblyError, match="in one another"):
        parsed(deep)
    monkeypatch.setattr("vexstream.embedded.MAX_BYTES", 1000)
    with pytest.raises(AssemblyError, match="resources are too large"):
        parsed(assembly("Shop.exe", contents=[zlib.compress(JSON + bytes(1000))]))
    monkeypatch.setattr("vexstream.embedded.MAX_RESOURCES", 3)
    with pytest.raises(AssemblyError, match="too many resources"):
        parsed(assembly("Shop.exe", contents=[b"1"] * 4))


def test_resources_in_one_another_share_what_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vexstream.embedded.MAX_BYTES", 3 * len(JSON))
    assert b"newtonsoft.json.dll" in parsed(assembly("Shop.exe", contents=[JSON] * 3)).embedded
    with pytest.raises(AssemblyError, match="resources are too large"):
        parsed(assembly("Shop.exe", contents=[JSON] * 4))
    inner = assembly("Shop.exe", contents=[zlib.compress(JSON)])
    for count, fits in ((1, True), (2, False)):
        monkeypatch.setattr("vexstream.embedded.MAX_BYTES", len(inner) * 2 + len(JSON))
        outer = assembly("Outer.exe", contents=[inner] * count)
        assert (reading_error(outer) is None) is fits
    monkeypatch.setattr("vexstream.embedded.MAX_RESOURCES", 3)
    assert reading_error(assembly("Outer.exe", contents=[inner])) is None
    assert reading_error(assembly("Outer.exe", contents=[inner] * 2)) is not None


def reading_error(content: bytes) -> str | None:
    try:
        parsed(content)
    except AssemblyError as error:
        return str(error)
    return None


def test_names_without_end_leave_an_assembly_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = assembly("Shop.exe", resources=[f"{n}.dll" for n in range(10_001)], wide=True)
    assert reading_error(libraries) == "too many names in it are like those of libraries"
    inner = [assembly(f"{n}.dll", [f"N.Type{n}{m}" for m in range(9)]) for n in range(9)]
    assert reading_error(assembly("Shop.exe", contents=inner)) is None
    monkeypatch.setattr("vexstream.assemblies.MAX_TYPES", 80)
    assert "too many names" in str(reading_error(assembly("Shop.exe", contents=inner)))
    monkeypatch.setattr("vexstream.assemblies.MAX_HEAP_BYTES", 100)
    assert reading_error(JSON) == "its names are too long"


def test_a_resource_of_many_dots_has_no_more_ends_than_a_file_has_letters() -> None:
    found = list(merged._ends(b"a." * 500 + b"newtonsoft.json.dll"))
    assert b"newtonsoft.json.dll" in found
    assert max(map(len, found)) == 255


def test_names_that_an_obfuscator_took_away() -> None:
    assert parsed(assembly("a.dll", [f"A.{c}" for c in "abcdefghijklmnopqrstuvwxyz"])).renamed
    assert parsed(assembly("a.dll", [f"A.\N{ZERO WIDTH SPACE}{n}" for n in range(30)])).renamed
    assert not parsed(assembly("a.dll", [f"A.Customer{n}" for n in range(90)])).renamed


def test_a_program_of_windows_without_metadata_is_none() -> None:
    assert read(memoryview(b"MZ" + bytes(400))) is None
    native = bytearray(JSON)
    at = native.index(b"PE\0\0") + 24 + 96 + 14 * 8
    native[at : at + 8] = bytes(8)
    assert read(memoryview(bytes(native))) is None


def test_damage_is_told_and_never_more() -> None:
    start = JSON.index(b"BSJB")
    with pytest.raises(AssemblyError):
        read(memoryview(JSON.replace(b"BSJB", b"XXXX")))
    for end in range(0x100, len(JSON), 7):
        try:
            read(memoryview(JSON[:end]))
        except AssemblyError:
            assert end > 0x80
    with pytest.raises(AssemblyError):
        read(memoryview(JSON[: start + 200]))


def scanned(folder: Path, files: Mapping[str, bytes], *more: Artifact) -> dict[str, Package]:
    files = {"srv/shop/Shop.deps.json": json.dumps(DEPS).encode(), **files}
    layer = folder / "layer"
    with tarfile.open(layer, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    image = unpack([layer], PLENTY).image()
    at = ("/srv/shop/Shop.deps.json",)
    found = [*(artifact("dotnet", n, at=at) for n in ("Shop", "Newtonsoft.Json", "Other")), *more]
    mapped = assign(found, image)
    seen = reading.read(merged.wanted(mapped, image), [layer], PLENTY, folder)
    distributed = distributed_files(found, mapped, image)
    return {one.name: one for one in merged.with_merged(found, mapped, image, distributed, seen)}


HOME = {
    "srv/shop/Shop.dll": assembly("Shop.dll", ["Shop.Program"]),
    "srv/shop/Newtonsoft.Json.dll": JSON,
    "srv/shop/Other.dll": assembly("Other.dll", ["O.O"]),
}
TOOL = "opt/tool/tool.exe"


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (assembly("tool.exe", ["Tool.Program"], TYPES), True),
        (assembly("tool.exe", [TYPES[0]]), True),
        (assembly("tool.exe", ["Tool.Program"]), False),
        (assembly("tool.exe", [], ["Newtonsoft.Json.Utilities.Inner"]), False),
        (assembly("Newtonsoft.Json.dll", TYPES), False),
        (assembly("tool.exe", resources=["costura.newtonsoft.json.dll.compressed"]), True),
        (assembly("tool.exe", resources=["Tool.lib.Newtonsoft.Json.dll"]), True),
        (assembly("tool.exe", resources=["costura.json.dll.compressed"]), False),
        (b"MZ" + bytes(400), False),
    ],
)  # fmt: skip
def test_an_assembly_that_holds_another_one(tmp_path: Path, content: bytes, holds: bool) -> None:
    found = scanned(tmp_path, {**HOME, TOOL: content})
    assert (f"/{TOOL}".encode() in found["Newtonsoft.Json"].files) is holds
    assert f"/{TOOL}".encode() not in found["Other"].files
    assert {package.unobservable for package in found.values()} == {None}


def test_the_application_may_hold_packages_and_packages_do_not(tmp_path: Path) -> None:
    copy = assembly("Shop.dll", ["Shop.Program"], TYPES)
    found = scanned(tmp_path, {**HOME, "srv/shop/Shop.dll": copy})
    assert b"/srv/shop/Shop.dll" in found["Newtonsoft.Json"].files
    other = {**HOME, "srv/shop/Other.dll": assembly("Other.dll", ["O.O"], TYPES)}
    assert b"/srv/shop/Other.dll" not in scanned(tmp_path, other)["Newtonsoft.Json"].files


def test_the_runtime_and_debs_hold_nobodys_copies(tmp_path: Path) -> None:
    copy = assembly("System.Private.X.dll", TYPES)
    runtime = "usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/System.Private.X.dll"
    found = scanned(tmp_path, {**HOME, runtime: copy, TOOL: copy}, deb("tool", f"/{TOOL}"))
    assert found["Newtonsoft.Json"].files == (b"/srv/shop/Newtonsoft.Json.dll",)


def test_types_of_many_modules_tell_nothing(tmp_path: Path) -> None:
    for count in (2, 3):
        tools = {f"opt/{n}.dll": assembly(f"{n}.dll", TYPES) for n in range(count)}
        held = scanned(tmp_path, {**HOME, **tools})["Newtonsoft.Json"].files
        assert len(held) == (3 if count == 2 else 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (JSON.replace(b"BSJB", b"XXXX"), "its metadata has no beginning"),
        (assembly("t.exe", [f"A.{c}" for c in "abcdefghijklmnopqrstuvwxyz"]),
         "its types are renamed"),
    ],
)  # fmt: skip
def test_an_assembly_that_cannot_be_read_may_hold_every_package(
    tmp_path: Path, content: bytes, why: str
) -> None:
    found = scanned(tmp_path, {**HOME, TOOL: content})
    assert found["Shop"].unobservable != found["Other"].unobservable
    assert found["Other"].unobservable == f"/{TOOL} may hold a copy of it: {why}"


def test_a_package_whose_own_assembly_cannot_be_read_is_open(tmp_path: Path) -> None:
    damaged = {**HOME, "srv/shop/Other.dll": JSON.replace(b"BSJB", b"XXXX")}
    found = scanned(tmp_path, {**damaged, TOOL: assembly("tool.exe", ["T.T"])})
    assert found["Other"].unobservable == ("/srv/shop/Other.dll: its metadata has no beginning")


def test_nothing_is_read_without_packages(tmp_path: Path) -> None:
    found = scanned(tmp_path, {TOOL: JSON})
    assert found["Newtonsoft.Json"].files == ()


def test_too_many_types_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_NAMES_BYTES", 0)
    damaged = JSON.replace(b"BSJB", b"XXXX")
    found = scanned(tmp_path, {**HOME, TOOL: damaged})
    assert (
        found["Other"].unobservable
        == "/srv/shop/Other.dll: the image's assemblies have too many names"
    )
