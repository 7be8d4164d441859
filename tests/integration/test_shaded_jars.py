"""Java programs that run copies of packages, made by Maven, jlink and javac, against strace.

The package's own jar lies beside them and stays closed.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

LANG = ("org.apache.commons", "commons-lang3", "3.12.0")
JAR = f"{LANG[1]}-{LANG[2]}.jar"
MAIN = """
package com.shop;
import org.apache.commons.lang3.builder.HashCodeBuilder;
public class Main { public static void main(String[] a) {
  System.out.println(new HashCodeBuilder().append(a).toHashCode()); } }
"""
FEW = """
package com.shop;
import org.apache.commons.lang3.BitField;
public class Main { public static void main(String[] a) {
  System.out.println(new BitField(6).getValue(7)); } }
"""
PROGUARD = """
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>com.shop</groupId><artifactId>tools</artifactId><version>1</version>
<dependencies><dependency><groupId>com.guardsquare</groupId><artifactId>proguard-base</artifactId>
<version>7.4.2</version></dependency></dependencies></project>
"""
POM = """
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>com.shop</groupId><artifactId>shop</artifactId><version>1</version>
<properties><maven.compiler.source>17</maven.compiler.source>
<maven.compiler.target>17</maven.compiler.target></properties>
<dependencies><dependency><groupId>{0}</groupId><artifactId>{1}</artifactId>
<version>{2}</version></dependency></dependencies>
<build><plugins>
<plugin><artifactId>maven-dependency-plugin</artifactId><version>3.6.0</version>
<executions><execution><phase>package</phase><goals><goal>copy-dependencies</goal></goals>
</execution></executions></plugin>
<plugin><artifactId>maven-shade-plugin</artifactId><version>3.5.1</version>
<executions><execution><phase>package</phase><goals><goal>shade</goal></goals><configuration>
<minimizeJar>true</minimizeJar>
<filters><filter><artifact>*:*</artifact>
<excludes><exclude>META-INF/maven/**</exclude></excludes></filter></filters>
<relocations>{relocations}</relocations>
</configuration></execution></executions></plugin></plugins></build></project>
"""
RELOCATION = """
<relocation><pattern>org.apache.commons</pattern><shadedPattern>com.shop.x</shadedPattern>
</relocation>
"""


class Shop:
    """The program, as Maven makes it: once in each of its ways."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], Path] = {}

    def shade(self, root: Path, relocations: str = "", main: str = MAIN) -> list[str]:
        """Its jar, the package's jar beside it, and the command that runs it."""
        key = relocations, main
        if key not in self._made:
            self._made[key] = self._make(self._folder / str(len(self._made)), *key)
        (root / "opt/lib").mkdir(parents=True)
        shutil.copy(self._made[key] / "shop-1.jar", root / "opt/shop.jar")
        shutil.copy(self._made[key] / "dependency" / JAR, root / "opt/lib" / JAR)
        return ["java", "-Xshare:off", "-cp", str(root / "opt/shop.jar"), "com.shop.Main"]

    def _make(self, work: Path, relocations: str, main: str) -> Path:
        maven = ecosystems.need("mvn", "apt-get install maven")
        pom = POM.format(*LANG, relocations=relocations)
        ecosystems.write(work, {"pom.xml": pom, "src/main/java/com/shop/Main.java": main})
        ecosystems.run([maven, "--quiet", "--batch-mode", "package"], work)
        return work / "target"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def shaded(root: Path, work: Path, shop: Shop) -> tuple[list[str], str]:
    return shop.shade(root), "opt/shop.jar"


def relocated(root: Path, work: Path, shop: Shop) -> tuple[list[str], str]:
    return shop.shade(root, RELOCATION), "opt/shop.jar"


def relocated_alone(root: Path, work: Path, shop: Shop) -> tuple[list[str], str]:
    """A single class was left."""
    return shop.shade(root, RELOCATION, FEW), "opt/shop.jar"


def exploded(root: Path, work: Path, shop: Shop) -> tuple[list[str], str]:
    command = shop.shade(root)
    classes = root / "srv/shop/WEB-INF/classes"
    classes.mkdir(parents=True)
    ecosystems.run(["jar", "--extract", "--file", root / "opt/shop.jar"], classes)
    (root / "opt/shop.jar").unlink()
    holder = "org/apache/commons/lang3/builder/HashCodeBuilder.class"
    return [*command[:3], str(classes), command[-1]], f"srv/shop/WEB-INF/classes/{holder}"


def linked(root: Path, work: Path, shop: Shop) -> tuple[list[str], str]:
    shop.shade(root)
    (root / "opt/shop.jar").unlink()
    (work / "lent").mkdir()
    ecosystems.run(["jar", "--extract", "--file", root / "opt/lib" / JAR],
                   work / "lent")  # fmt: skip
    ecosystems.write(work, {
        "m/lent/module-info.java":
            "module lent { exports org.apache.commons.lang3.builder; requires java.desktop; }",
        "m/shop/module-info.java": "module shop { requires lent; }",
        "m/shop/com/shop/Main.java": MAIN,
    })  # fmt: skip
    ecosystems.run(["javac", "--patch-module", "lent=lent", "-d", "lent",
                    "m/lent/module-info.java"], work)  # fmt: skip
    ecosystems.run(["javac", "-p", "lent", "-d", "own", "m/shop/module-info.java",
                    "m/shop/com/shop/Main.java"], work)  # fmt: skip
    ecosystems.run(["jlink", "--module-path", "lent:own", "--add-modules", "shop", "--output",
                    root / "opt/run"], work)  # fmt: skip
    return [str(root / "opt/run/bin/java"), "-m", "shop/com.shop.Main"], "opt/run/lib/modules"


@pytest.mark.parametrize("make", [shaded, relocated, relocated_alone, exploded, linked])
def test_what_holds_a_packages_classes_is_a_file_of_it(
    make: Callable[[Path, Path, Shop], tuple[list[str], str]],
    shop: Shop, syft: Path, tmp_path: Path,
) -> None:  # fmt: skip
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    for program in ("javac", "jlink"):
        ecosystems.need(program, "apt-get install default-jdk-headless")
    command, holder = make(root, work, shop)
    used, own = mapped.opened(root, work, command), f"/opt/lib/{JAR}".encode()
    assert f"/{holder}".encode() in used
    assert own not in used
    packages = mapped.packages(root, work, syft)
    [found] = [package for package in packages if package.name == LANG[1]]
    assert {own, f"/{holder}".encode()} <= set(found.files)
    assert found.unobservable is None
    runtime = [package for package in packages if package.name == "openjdk"]
    assert not [package for package in runtime if own in package.files]


def test_what_an_obfuscator_has_renamed_may_be_anybodys(
    shop: Shop, syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root, work / "tools"):
        folder.mkdir(parents=True)
    shop.shade(root)
    maven = ecosystems.need("mvn", "apt-get install maven")
    ecosystems.write(work, {"tools/pom.xml": PROGUARD})
    ecosystems.run([maven, "--quiet", "--batch-mode", "dependency:copy-dependencies",
                    "-DoutputDirectory=lib"], work / "tools")  # fmt: skip
    jdk = Path(ecosystems.need("javac", "apt-get install default-jdk-headless")).resolve()
    modules = [
        f"-libraryjars {jdk.parents[1]}/jmods/{name}.jmod(!**.jar;!module-info.class)"
        for name in ("java.base", "java.desktop")
    ]
    ecosystems.write(work, {"shop.pro": "\n".join([
        f"-injars {root}/opt/shop.jar(!META-INF/**)", "-outjars small.jar", *modules, "-dontwarn",
        "-dontnote", "-keep class com.shop.Main { public static void main(java.lang.String[]); }",
    ])})  # fmt: skip
    ecosystems.run(["java", "-cp", "tools/lib/*", "proguard.ProGuard", "@shop.pro"], work)
    (work / "small.jar").rename(root / "opt/shop.jar")
    command = ["java", "-Xshare:off", "-cp", str(root / "opt/shop.jar"), "com.shop.Main"]
    assert mapped.opened(root, work, command) == {b"/opt/shop.jar"}
    [found] = [package for package in mapped.packages(root, work, syft) if package.name == LANG[1]]
    assert found.unobservable == "/opt/shop.jar may hold a copy of it: its classes are renamed"
