"""Assemblies that hold others, made by Mono's compiler and Mono.Cecil, against strace."""

import json
import zlib
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

_SOURCES = Path(__file__).parent / "dotnet"
_HOW = "apt-get install mono-mcs mono-runtime libmono-cil-dev"
_LIBRARY = "/srv/shop/Acme.Json.dll"
_TOOL = "/opt/shop.exe"
_DEPS = {
    "runtimeTarget": {"name": ".NETCoreApp,Version=v8.0"},
    "targets": {".NETCoreApp,Version=v8.0": {
        "Shop/1.0.0": {"dependencies": {"Acme.Json": "1.0.0"}, "runtime": {"Shop.dll": {}}},
        "Acme.Json/1.0.0": {"runtime": {"lib/net6.0/Acme.Json.dll": {}}},
        "Idle/1.0.0": {"runtime": {"lib/net6.0/Idle.dll": {}}}}},
    "libraries": {"Shop/1.0.0": {"type": "project", "serviceable": False, "sha512": ""},
                  "Acme.Json/1.0.0": {"type": "package", "serviceable": True, "sha512": "sha512-a"},
                  "Idle/1.0.0": {"type": "package", "serviceable": True, "sha512": "sha512-b"}},
}  # fmt: skip


def _deflated(path: Path, work: Path) -> Path:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = work / "packed"
    packed.write_bytes(packer.compress(path.read_bytes()) + packer.flush())
    return packed


def _resource(made: str, library: Path, work: Path) -> list[str]:
    """The option of the compiler by which the library becomes a resource."""
    match made:
        case "resource":
            return [f"-resource:{library},Shop.lib.Acme.Json.dll"]
        case "costura":
            return [f"-resource:{_deflated(library, work)},costura.acme.json.dll.compressed"]
        case "nameless":
            return [f"-resource:{library},data"]
        case "nameless, deflated":
            return [f"-resource:{work / 'Shop.cs'},text",
                    f"-resource:{_deflated(library, work)},packed"]  # fmt: skip
    return []


def _merged(program: Path, library: Path, work: Path, mcs: str, mono: str) -> None:
    cecil = next(Path("/usr/lib/mono").rglob("Mono.Cecil.dll"), None)
    if cecil is None:
        pytest.skip(f"Mono.Cecil is not installed: {_HOW}")
    (work / "Mono.Cecil.dll").write_bytes(cecil.read_bytes())
    ecosystems.run([mcs, "-out:merge.exe", f"-r:{cecil}", _SOURCES / "Merge.cs"], work)
    ecosystems.run([mono, "merge.exe", program, library, work / "merged.exe"], work)
    (work / "merged.exe").rename(program)


@pytest.mark.parametrize(
    "made", ["resource", "costura", "nameless", "nameless, deflated", "merged", "beside"]
)
def test_an_assembly_is_known_wherever_it_was_put(made: str, syft: Path, tmp_path: Path) -> None:
    mcs, mono = ecosystems.need("mcs", _HOW), ecosystems.need("mono", _HOW)
    root, work = tmp_path / "root", tmp_path / "work"
    work.mkdir()
    ecosystems.write(root, {"srv/shop/Shop.deps.json": json.dumps(_DEPS), "opt/about.txt": ""})
    library, program = root / _LIBRARY[1:], root / _TOOL[1:]
    for name in ("Acme.Json", "Idle"):
        (work / f"{name}.cs").write_text(
            (_SOURCES / "Json.cs").read_text().replace("Acme.Json", name))  # fmt: skip
        ecosystems.run([mcs, "-target:library", f"-out:{library.parent / name}.dll",
                        f"{name}.cs"], work)  # fmt: skip
    (work / "Shop.cs").write_bytes((_SOURCES / "Shop.cs").read_bytes())
    ecosystems.run([mcs, f"-out:{program}", f"-r:{library}", *_resource(made, library, work),
                    "Shop.cs"], work)  # fmt: skip
    if made == "merged":
        _merged(program, library, work, mcs, mono)
    beside = made == "beside"
    used = mapped.opened(root, work, [
        "env", f"MONO_PATH={library.parent if beside else root}", mono, str(program)])  # fmt: skip
    assert (_LIBRARY.encode() in used) is beside
    found = {one.name: one for one in mapped.packages(root, work, syft) if one.type == "dotnet"}
    assert (_TOOL.encode() in found["Acme.Json"].files) is not beside
    assert _TOOL.encode() not in found["Idle"].files
    assert {one.unobservable for one in found.values() if one.name != "Shop"} == {None}
