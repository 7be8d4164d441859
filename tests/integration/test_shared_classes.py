"""Archives of classes that HotSpot writes under any name: the jars of their classes stay closed,
as strace tells, and are open for us."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

PATH = ["-cp", "shop.jar:lent-1.0.jar"]
SHOP = """
public class Shop { public static void main(String[] a) { org.example.Lent.hello(); } }
"""
LENT = """
package org.example;
public class Lent { public static void hello() { System.out.println("hello"); } }
"""


def _newer_java(least: int) -> str:
    """A JDK beside the default one."""
    for release in sorted(Path("/usr/lib/jvm").glob("*/release")):
        version = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
        if version and int(version[1]) >= least:
            return str(release.parent / "bin/java")
    pytest.skip(f"no JDK {least} or newer in /usr/lib/jvm")


def dynamic(home: Path) -> tuple[list[str], str]:
    ecosystems.run(["java", "-XX:ArchiveClassesAtExit=shop.cds", *PATH, "Shop"], home)
    return ["java", "-XX:SharedArchiveFile=shop.cds", *PATH, "Shop"], "shop.cds"


def _dumped(java: str, home: Path, archive: str) -> None:
    options = ["-Xshare:off", "-XX:DumpLoadedClassList=shop.list", *PATH]
    ecosystems.run([java, *options, "Shop"], home)
    ecosystems.run([java, "-Xshare:dump", "-XX:SharedClassListFile=shop.list",
                    f"-XX:SharedArchiveFile={archive}", *PATH], home)  # fmt: skip


def static(home: Path) -> tuple[list[str], str]:
    _dumped("java", home, "warm")
    return ["java", "-XX:SharedArchiveFile=warm", *PATH, "Shop"], "warm"


def cache(home: Path) -> tuple[list[str], str]:
    java = _newer_java(24)
    ecosystems.run([java, "-XX:AOTMode=record", "-XX:AOTConfiguration=shop.conf", *PATH, "Shop"],
                   home)  # fmt: skip
    ecosystems.run([java, "-XX:AOTMode=create", "-XX:AOTConfiguration=shop.conf",
                    "-XX:AOTCache=shop.cache", *PATH], home)  # fmt: skip
    (home / "shop.conf").unlink()
    return [java, "-XX:AOTCache=shop.cache", *PATH, "Shop"], "shop.cache"


def jdks_own(home: Path) -> tuple[list[str], str]:
    """The archive of the runtime's own classes, made anew with the class path."""
    ecosystems.run(["jlink", "--add-modules", "java.base", "--output", home / "run"], home)
    java = "run/bin/java"
    _dumped(java, home, "run/lib/server/classes.jsa")
    return [java, *PATH, "Shop"], "run/lib/server/classes.jsa"


@pytest.mark.parametrize("make", [dynamic, static, cache, jdks_own])
def test_jars_beside_an_archive_of_their_classes_are_open(
    make: Callable[[Path], tuple[list[str], str]], syft: Path, tmp_path: Path
) -> None:
    for program in ("javac", "jar", "jlink"):
        ecosystems.need(program, "apt-get install default-jdk-headless")
    root, work = tmp_path / "root", tmp_path / "work"
    home = root / "opt"
    home.mkdir(parents=True)
    ecosystems.write(work, {"Shop.java": SHOP, "Lent.java": LENT})
    ecosystems.run(["javac", "--release", "11", "-d", "classes", "Shop.java", "Lent.java"], work)
    ecosystems.run(["jar", "cf", home / "shop.jar", "-C", "classes", "Shop.class"], work)
    lent = (work / "classes/org/example/Lent.class").read_bytes()
    ecosystems.jar(home / "lent-1.0.jar", ["org.example:lent:1.0"],
                   {"org/example/Lent.class": lent})  # fmt: skip
    command, archive = make(home)
    used = mapped.opened(home, work, command)
    assert f"/{archive}".encode() in used
    assert not [file for file in used if file.endswith(b".jar")]
    [found] = [p for p in mapped.packages(root, work, syft) if p.name == "lent"]
    assert found.unobservable == f"the shared classes in /opt/{archive} may be its own"
