"""Which file shows the use of a package in layouts that frameworks of Java have: Quarkus' fast-jar,
Spring Boot's archive and the directories that it is taken apart into, and native images of GraalVM
that say what is in them. By the real Syft; what is in the files was made here."""

import gzip
import json
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped
from tests.unit.classfiles import class_file
from vexstream.scan import Package

pytestmark = pytest.mark.real

QUARKUS, BOOT, FAT, NATIVE = "opt/quarkus-app", "opt/boot", "opt/fat/shop.jar", "usr/local/bin/shop"
_PROGRAM = """
#include <stdint.h>
char sbom[] = {%s};
uint64_t sbom_length = %d;
char __svm_version_info[] = "GraalVM 23.0.1";
__attribute__((section(".svm_heap"), aligned(8))) char heap[64] = "heap";
int main(void) { return sbom[0] == 0; }
"""


def _jar(path: Path, name: str, *, published: bool = True) -> bytes:
    """A library with one class, ``org.example.<name>.Lent``."""
    lent = class_file(f"org/example/{name}/Lent")
    coordinates = [f"org.example:{name}:1.0"] if published else []
    return ecosystems.jar(path, coordinates, {f"org/example/{name}/Lent.class": lent})


def _native(root: Path, work: Path) -> None:
    ecosystems.need("gcc", "apt-get install gcc")
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "components": [{
            "type": "library", "group": "org.example", "name": "linked", "version": "1.0",
            "purl": "pkg:maven/org.example/linked@1.0",
        }],
    }  # fmt: skip
    packed = gzip.compress(json.dumps(document).encode())
    source = _PROGRAM % (",".join(str(n - 256 if n > 127 else n) for n in packed), len(packed))
    ecosystems.write(work, {"shop.c": source})
    (root / NATIVE).parent.mkdir(parents=True)
    ecosystems.run(["gcc", "-rdynamic", "-o", root / NATIVE, "shop.c"], work)


@pytest.fixture(scope="module")
def found(syft: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, ...]:
    folder = tmp_path_factory.mktemp("layouts")
    root, work = folder / "root", folder / "work"
    work.mkdir()
    _jar(root / QUARKUS / "lib/main/org.example.woven-1.0.jar", "woven")
    _jar(root / QUARKUS / "lib/main/org.example.plain-1.0.jar", "plain")
    _jar(root / QUARKUS / "lib/boot/org.example.boot-1.0.jar", "boot")
    _jar(root / QUARKUS / "quarkus/transformed-bytecode.jar", "woven", published=False)
    for name in ("quarkus-run", "app/shop-1.0", "quarkus/generated-bytecode"):
        _jar(root / QUARKUS / f"{name}.jar", "mine", published=False)
    _jar(root / BOOT / "BOOT-INF/lib/exploded-1.0.jar", "exploded")
    inner = _jar(work / "inner.jar", "nested")
    ecosystems.jar(root / FAT, ["org.shop:shop:1.0"], {"BOOT-INF/lib/nested-1.0.jar": inner})
    ecosystems.write(root, {
        f"{BOOT}/BOOT-INF/classes/org/shop/Shop.class": class_file("org/shop/Shop"),
        f"{BOOT}/org/springframework/boot/loader/launch/JarLauncher.class":
            class_file("org/springframework/boot/loader/launch/JarLauncher"),
        f"{BOOT}/META-INF/MANIFEST.MF":
            "Manifest-Version: 1.0\nImplementation-Title: shop\nImplementation-Version: 1.0\n"
            "Main-Class: org.springframework.boot.loader.launch.JarLauncher\n",
    })  # fmt: skip
    return mapped.packages(root, work, syft)


def _one(found: tuple[Package, ...], name: str) -> Package:
    [package] = [package for package in found if package.name == name]
    assert package.unobservable is None
    return package


def _paths(prefix: str, *names: str) -> set[bytes]:
    return {f"/{prefix}/{name}".encode() for name in names}


def test_quarkus_runs_a_class_that_it_has_changed_from_a_jar_of_its_own(
    found: tuple[Package, ...],
) -> None:
    woven, plain, boot = (_one(found, name) for name in ("woven", "plain", "boot"))
    assert set(woven.files) == _paths(
        QUARKUS, "lib/main/org.example.woven-1.0.jar", "quarkus/transformed-bytecode.jar"
    )
    assert set(plain.files) == _paths(QUARKUS, "lib/main/org.example.plain-1.0.jar")
    assert set(boot.files) == _paths(QUARKUS, "lib/boot/org.example.boot-1.0.jar")


def test_a_library_of_spring_boot_is_its_own_jar_or_the_one_that_has_it(
    found: tuple[Package, ...],
) -> None:
    exploded, nested = _one(found, "exploded"), _one(found, "nested")
    assert set(exploded.files) == _paths(BOOT, "BOOT-INF/lib/exploded-1.0.jar")
    assert f"/{FAT}".encode() in nested.files


def test_a_native_image_shows_the_use_of_what_it_says_is_in_it(syft: Path, tmp_path: Path) -> None:
    """Its silence shows nothing, for Syft does not say in which file it has found the packages."""
    root, work = tmp_path / "root", tmp_path / "work"
    work.mkdir()
    _native(root, work)
    [linked] = [one for one in mapped.packages(root, work, syft) if one.name == "linked"]
    assert linked.files == (f"/{NATIVE}".encode(),)
    assert linked.unobservable is not None
