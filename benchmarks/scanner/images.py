"""The images of the comparison, as root file systems that can be run: one ecosystem each.

All stand on one Debian with the languages' own packages; what is above it comes from the
ecosystem's own installer (tests/support/ecosystems.py) and lies in an overlay.
"""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.local import image_base
from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.local.image_cache import cached_file
from tests.support import ecosystems

LANGUAGES = ("ca-certificates", "curl", "default-jre-headless", "nodejs", "php-cli", "python3",
             "python3-yaml", "python3-six", "ruby")  # fmt: skip
_CLASS = """
public class Shop { public static void main(String[] a) throws Exception {
  System.out.println(Class.forName(a[0]).getName()); } }
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """An image of the comparison and what is run in it."""

    name: str
    fill: Callable[[Path, Path], object]
    """Takes the root and a folder for work."""
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject on disk: its root, mounted, and the same as an OCI layout."""

    root: Path
    layout: Path
    layers: tuple[Path, ...]


def _python(root: Path, work: Path) -> None:
    del work
    ecosystems.venv(root, "opt/venv", "flask==2.2.2", "werkzeug==2.2.2", "requests==2.28.1",
                    "pillow==10.4.0",
                    "lxml==5.3.0", "zope.interface==6.0")  # fmt: skip
    home = root / "opt/venv"
    for name in ("python", "python3"):  # the image's Python, not the one that made the environment
        (home / "bin" / name).unlink()
        (home / "bin" / name).symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\n")


def _jars(root: Path, work: Path) -> None:
    """A shaded jar with a class that runs and the coordinates of two artifacts, and an idle jar."""
    javac = ecosystems.need("javac", "apt-get install default-jdk-headless")
    target = root / "opt/java"
    (work / "Shop.java").write_text(_CLASS)
    (work / "Used.java").write_text("package org.example; public class Used {}\n")
    for source, folder in (("Shop.java", target), ("Used.java", work / "classes")):
        ecosystems.run([javac, "--release", "17", "-d", folder, source], work)
    used = (work / "classes/org/example/Used.class").read_bytes()
    ecosystems.jar(target / "shaded-1.0.jar", ["org.example:one:1.0", "org.example:two:2.0"],
                   {"org/example/Used.class": used})  # fmt: skip
    ecosystems.jar(target / "idle-1.0.jar", ["org.example:idle:1.0"])


def _gems(root: Path, work: Path) -> None:
    for name in ("epsilon", "idle"):
        (work / name).mkdir()
        ecosystems.gem(root, work / name, name)


def _programs(root: Path, work: Path) -> None:
    for name in ("shop", "idle"):
        (work / name).mkdir()
        ecosystems.go(root, work / name, f"usr/local/bin/{name}")


SUBJECTS = (
    Subject("Python, venv", _python,
            ("/opt/venv/bin/python3", "-c", "import flask, requests; flask.Flask('x')")),
    Subject("Python, Debian", lambda root, work: None,
            ("/usr/bin/python3", "-c", "import yaml; yaml.safe_load('a: 1')")),
    Subject("Node, npm",
            lambda root, work: ecosystems.npm(
                root, "srv/app", {"express": "4.18.2", "debug": "4.3.4", "lodash": "4.17.20"}),
            ("/bin/sh", "-c", "cd /srv/app && exec node -e \"require('express')()\"")),
    Subject("Node, pnpm",
            lambda root, work: ecosystems.npm(
                root, "srv/app", {"express": "4.18.2", "lodash": "4.17.20"}, pnpm=True),
            ("/bin/sh", "-c", "cd /srv/app && exec node -e \"require('express')()\"")),
    Subject("Ruby, gems",
            _gems,
            ("/usr/bin/ruby", "-e", "ENV['GEM_PATH']='/usr/local/lib/ruby/gems/3.1.0';"
             "Gem.clear_paths; require 'epsilon'")),
    Subject("PHP, Composer", lambda root, work: ecosystems.composer(root, work / "p", "acme/zeta"),
            ("/usr/bin/php", "-r", "require '/srv/php/vendor/autoload.php'; new Acme\\Answer;")),
    Subject("Java, jars", _jars,
            ("/usr/bin/java", "-Xshare:off", "-cp",
             "/opt/java:/opt/java/shaded-1.0.jar:/opt/java/idle-1.0.jar", "Shop",
             "org.example.Used")),
    Subject("Go",
            _programs,
            ("/usr/local/bin/shop",)),
    Subject("dpkg --list", lambda root, work: None, ("/usr/bin/dpkg", "--list")),
)  # fmt: skip


def base_layer(cache: Path) -> Path:
    """The Debian with the languages; two minutes when it is built, once."""
    recipe = [image_base.recipe(), LANGUAGES]
    return cached_file(cache, "languages", recipe, _bootstrap)


def _bootstrap(layer: Path) -> None:
    with tempfile.TemporaryDirectory(dir=layer.parent, ignore_cleanup_errors=True) as work:
        root = Path(work, "root")
        image_base.in_own_mounts(
            ["debootstrap", "--variant=minbase", f"--include={','.join(LANGUAGES)}",
             image_base.SUITE, str(root), *filter(None, [image_base.debian_mirror()])],
            "debootstrap",
        )  # fmt: skip
        layer_of_directory(root, layer)


@contextlib.contextmanager
def prepared(subject: Subject, base: Path, base_root: Path, folder: Path) -> Iterator[Prepared]:
    """Fills an overlay above the base; it is gone afterwards."""
    upper, root, work = folder / "upper", folder / "root", folder / "work"
    for path in (upper, root, work, folder / "overlay"):
        path.mkdir(parents=True)
    options = f"lowerdir={base_root},upperdir={upper},workdir={folder / 'overlay'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    try:
        subject.fill(root, work)
        layer = folder / "layer.tar"
        layer_of_directory(upper, layer)
        layers = (base, layer) if any(upper.iterdir()) else (base,)
        archive = write_archive(folder / "image.tar", "localhost/compared:1", layers, ImageConfig())
        layout = folder / "layout"
        layout.mkdir()
        shutil.unpack_archive(archive.path, layout)
        archive.path.unlink()
        with _proc(root):
            yield Prepared(root, layout, layers)
    finally:
        subprocess.run(["umount", str(root)], check=True)


@contextlib.contextmanager
def _proc(root: Path) -> Iterator[None]:
    """Java finds its libraries by /proc/self/exe."""
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(root / "proc")], check=True)
