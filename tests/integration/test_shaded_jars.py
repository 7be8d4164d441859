"""Java programs that run copies of packages, made by Maven, jlink and javac, against strace.

The package's own jar lies beside them and stays closed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

LANG = ("org.apache.commons", "commons-lang3", "3.12.0")
MAIN = """
package com.shop;
import org.apache.commons.lang3.builder.HashCodeBuilder;
public class Main { public static void main(String[] a) {
  System.out.println(new HashCodeBuilder().append(a).toHashCode()); } }
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


def _shade(root: Path, work: Path, relocations: str) -> list[str]:
    maven = ecosystems.need("mvn", "apt-get install maven")
    pom = POM.format(*LANG, relocations=relocations)
    ecosystems.write(work, {"pom.xml": pom, "src/main/java/com/shop/Main.java": MAIN})
    ecosystems.run([maven, "--quiet", "--batch-mode", "package"], work)
    (root / "opt/lib").mkdir(parents=True)
    (work / "target/shop-1.jar").rename(root / "opt/shop.jar")
    name = f"{LANG[1]}-{LANG[2]}.jar"
    (work / "target/dependency" / name).rename(root / "opt/lib" / name)
    return ["java", "-Xshare:off", "-cp", str(root / "opt/shop.jar"), "com.shop.Main"]


def shaded(root: Path, work: Path) -> tuple[list[str], str]:
    return _shade(root, work, ""), "opt/shop.jar"


def relocated(root: Path, work: Path) -> tuple[list[str], str]:
    return _shade(root, work, RELOCATION), "opt/shop.jar"


def exploded(root: Path, work: Path) -> tuple[list[str], str]:
    command = _shade(root, work, "")
    classes = root / "srv/shop/WEB-INF/classes"
    classes.mkdir(parents=True)
    ecosystems.run(["jar", "--extract", "--file", root / "opt/shop.jar"], classes)
    (root / "opt/shop.jar").unlink()
    holder = "org/apache/commons/lang3/builder/HashCodeBuilder.class"
    return [*command[:3], str(classes), command[-1]], f"srv/shop/WEB-INF/classes/{holder}"


def linked(root: Path, work: Path) -> tuple[list[str], str]:
    _shade(root, work, "")
    (root / "opt/shop.jar").unlink()
    (work / "lent").mkdir()
    ecosystems.run(["jar", "--extract", "--file", root / f"opt/lib/{LANG[1]}-{LANG[2]}.jar"],
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


@pytest.mark.parametrize("make", [shaded, relocated, exploded, linked])
def test_what_holds_a_packages_classes_is_a_file_of_it(
    make: Callable[[Path, Path], tuple[list[str], str]], syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    for program in ("javac", "jlink"):
        ecosystems.need(program, "apt-get install default-jdk-headless")
    command, holder = make(root, work)
    used, own = mapped.opened(root, work, command), f"/opt/lib/{LANG[1]}-{LANG[2]}.jar".encode()
    assert f"/{holder}".encode() in used
    assert own not in used
    packages = mapped.packages(root, work, syft)
    [found] = [package for package in packages if package.name == LANG[1]]
    assert {own, f"/{holder}".encode()} <= set(found.files)
    assert found.unobservable is None
    runtime = [package for package in packages if package.name == "openjdk"]
    assert not [package for package in runtime if own in package.files]
