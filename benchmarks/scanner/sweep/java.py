"""Archives of Maven Central; the JVM says from which one each class is."""

import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scanner.sweep.running import Case

LIBRARIES = "opt/java/lib"
EXPLODED = "opt/exploded"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_PINS = Path(__file__).parent / "pins"
_CLASSES = 40
_LOADER = """
import java.net.*; import java.io.*;
public class Loaded {
  public static void main(String[] a) throws Exception {
    URL[] urls = new URL[Integer.parseInt(a[1])];
    for (int i = 0; i < urls.length; i++) urls[i] = new URL(a[2 + i]);
    URLClassLoader loader = new URLClassLoader(urls, ClassLoader.getPlatformClassLoader());
    for (int i = 2 + urls.length; i < a.length; i++)
      try { Class.forName(a[i], false, loader); } catch (Throwable t) { }
    try (FileWriter w = new FileWriter(a[0])) { w.write(""); }
    Runtime.getRuntime().halt(0);
  }
}
"""


def fill(root: Path, work: Path) -> None:
    """Libraries with all that they need, and every fourth unpacked beside them."""
    (root / LIBRARIES).mkdir(parents=True)
    subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_PINS / "maven.xml"), _PLUGIN, "-DincludeScope=runtime",
         f"-DoutputDirectory={root / LIBRARIES}"],
        check=True, stdout=subprocess.DEVNULL, cwd=work,
    )  # fmt: skip
    for jar in sorted((root / LIBRARIES).glob("*.jar"))[::4]:
        with zipfile.ZipFile(jar) as archive:
            classes = [n for n in archive.namelist() if _is_class(n)]
            archive.extractall(root / EXPLODED / jar.stem, classes)


def install_loader(root: Path, work: Path) -> None:
    """The class that loads classes, compiled outside of the image."""
    (work / "Loaded.java").write_text(_LOADER)
    subprocess.run(["javac", "--release", "17", "-d", str(root / "tmp/.sweep"),
                    str(work / "Loaded.java")], check=True)  # fmt: skip


def cases(root: Path) -> Iterator[Case]:
    """One JVM for each archive, that of Debian too, and each folder of classes."""
    for libraries in (LIBRARIES, "usr/share/java"):
        for jar in sorted((root / libraries).glob("*.jar")):
            if jar.is_file() and not jar.is_symlink() and (names := _names(jar)):
                place = f"/{jar.relative_to(root)}"
                yield Case(jar.name, _probe(f"file:{place}"), tuple(names))
    for folder in sorted((root / EXPLODED).glob("*")):
        names = _names(root / LIBRARIES / f"{folder.name}.jar")
        place = f"file:/{folder.relative_to(root)}/"
        yield Case(f"{folder.name}/", _probe(place), tuple(names))


def _probe(place: str) -> tuple[str, ...]:
    return ("/usr/bin/java", "-Xshare:off", "-Xint", "-Xlog:class+load:file={out}.jvm",
            "-cp", "/tmp/.sweep", "Loaded", "{out}", "1", place)  # fmt: skip # noqa: S108


def _names(jar: Path) -> list[str]:
    with zipfile.ZipFile(jar) as archive:
        names = sorted(n for n in archive.namelist() if _is_class(n))
    step = max(len(names) // _CLASSES, 1)
    return [name.removesuffix(".class").replace("/", ".") for name in names[::step][:_CLASSES]]


def _is_class(name: str) -> bool:
    return name.endswith(".class") and not re.search(r"META-INF/|module-info|package-info", name)
