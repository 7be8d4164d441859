"""One image with packages of every ecosystem: what we say they own, against their installers.

The packages are put there by pip, uv, npm, pnpm, dpkg, rpm, pacman, gem, Composer, go and rustc
(tests/support/ecosystems.py), cataloged by the real Syft, and mapped by us. The other side is what
the installers themselves list.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems
from vexstream import ownership, sbom
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.scan import Package

pytestmark = pytest.mark.real

PLENTY = 1 << 40
SITE = "lib/python3.11/site-packages"
_DISTRIBUTIONS = """
import importlib.metadata, os, sys
for found in importlib.metadata.distributions(path=[sys.argv[1]]):
    for file in found.files or ():
        print(found.metadata["Name"].lower().replace("_", "-").replace(".", "-"),
              os.path.abspath(found.locate_file(file)), sep="\\t")
"""


@dataclass(frozen=True, slots=True)
class Scanned:
    """The root file system and what we found in it."""

    root: Path
    packages: tuple[Package, ...]
    files: frozenset[bytes]
    """Every regular file of the merged layers."""
    gone: frozenset[str]
    """Ecosystems of which this machine has no installer."""

    def one(self, package_type: str, name: str, within: str = "") -> Package:
        """The only package of a name that owns a file below a directory."""
        found = [
            package
            for package in self.packages
            if (package.type, package.name) == (package_type, name)
            and (not within or any(file.startswith(within.encode()) for file in package.files))
        ]
        assert len(found) == 1, found
        return found[0]

    def real(self, path: str) -> bytes | None:
        """The image's path of a regular file on disk, as the kernel would report it."""
        if not os.path.isfile(path) or os.path.islink(path):
            return None
        folder, name = os.path.split(path)
        below = os.path.relpath(os.path.realpath(folder), os.path.realpath(self.root))
        return os.path.normpath(f"/{below}/{name}").encode()

    def needs(self, *ecosystems: str) -> None:
        """Skips the test where one of them is missing."""
        if missing := self.gone & set(ecosystems):
            pytest.skip(f"not installed here: {', '.join(sorted(missing))}")


def _fill(root: Path, work: Path, cache: Path) -> frozenset[str]:
    """Puts all ecosystems in; names those that this machine cannot."""

    def folder(name: str) -> Path:
        (work / name).mkdir()
        return work / name

    def python() -> None:
        ecosystems.venv(root, "opt/a", "flask==2.2.2", "pillow==10.4.0", "zope.interface==6.0")
        ecosystems.venv(root, "opt/b", "flask==2.2.2")
        ecosystems.pip(root / "opt/a", "-e", ecosystems.project(root / "src/ed1", "ed1", "ed1"))
        hatch = ecosystems.project(root / "src/ed2", "ed2", "ed2", backend="hatchling")
        ecosystems.pip(root / "opt/a", "-e", hatch)

    def uv() -> None:
        for mode in ("hardlink", "symlink"):
            ecosystems.uv(root, work, f"opt/{mode}", mode, "flask==2.2.5")

    def old_python() -> None:
        ecosystems.venv(root, "opt/old", "pip==22.3.1", "setuptools==65.5.0")
        program = root / "opt/old/bin/python"
        legacy = ecosystems.old_project(folder("legacy"), "legacy", "legacy")
        ecosystems.run([program, "-m", "pip", "install", "--no-build-isolation",
                        "--no-use-pep517", "--no-deps", legacy], work)  # fmt: skip
        developed = ecosystems.old_project(root / "src/dev", "dev", "dev")
        ecosystems.run([program, "setup.py", "develop"], developed)

    def jars() -> None:
        inner = ecosystems.jar(work / "inner.jar", ["org.a:inner:1.0"])
        ecosystems.jar(root / "opt/j/shaded.jar", ["org.b:one:1.0", "org.c:two:2.0"])
        ecosystems.jar(root / "opt/j/app.war", ["org.d:app:1.0"],
                       {"WEB-INF/lib/inner-1.0.jar": inner})  # fmt: skip

    def classes() -> None:
        ecosystems.shared_classes(root, folder("classes"), "opt/shared")

    def bundle() -> None:
        home = ecosystems.npm(root, "srv/bundled", {"ms": "2.1.2"})
        ecosystems.bundle(home, "dist/shop.js", "console.log(require('ms')(1000))")
        shutil.rmtree(home / "src")

    def npm() -> None:
        home = ecosystems.npm(root, "srv/npm", {"debug": "2.6.9", "ms": "2.1.3",
                                                "@sindresorhus/is": "4.6.0"})  # fmt: skip
        ecosystems.write(home, {"node_modules/debug/node_modules/bundled/index.js": "",
                                "node_modules/debug/dist/package.json": "{}"})  # fmt: skip

    steps: dict[str, Callable[[], object]] = {
        "python": python,
        "old python": old_python,
        "uv": uv,
        "npm": npm,
        "bundle": bundle,
        "shared classes": classes,
        "pnpm": lambda: ecosystems.npm(root, "srv/pnpm", {"debug": "2.6.9"}, pnpm=True),
        "rpm": lambda: ecosystems.rpm(root, folder("rpm"), ["alpha", "beta"]),
        "alpm": lambda: ecosystems.alpm(root, folder("alpm"), "gamma"),
        "apk": lambda: ecosystems.apk(root),
        "gem": lambda: ecosystems.gem(root, folder("gem"), "epsilon"),
        "composer": lambda: ecosystems.composer(root, folder("composer"), "acme/zeta"),
        "jars": jars,
        "go": lambda: ecosystems.go(root, folder("go"), "usr/local/bin/shop"),
        "rust": lambda: ecosystems.rust(root, folder("rust"), "usr/local/bin/crates"),
    }  # fmt: skip
    ecosystems.debian(root, cache)
    gone = set()
    for name, step in steps.items():
        try:
            step()
        except pytest.skip.Exception:
            gone.add(name)
    _copy(root)
    return frozenset(gone)


def _copy(root: Path) -> None:
    copies = {
        "lib/libssl.so.3": next(root.glob("usr/lib/*/libssl.so.3")),
        "fetch": root / "usr/bin/curl.real",
        "routing.py": root / f"opt/a/{SITE}/werkzeug/routing/map.py",
    }
    for target, source in copies.items():
        (root / "app" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / "app" / target)


@pytest.fixture(scope="module")
def scanned(syft: Path, image_cache: Path) -> Iterator[Scanned]:
    if os.geteuid() != 0:
        pytest.skip("dpkg, rpm and pacman install into a root as root only: start with sudo")
    with tempfile.TemporaryDirectory(prefix="vx-") as folder:
        base = Path(folder)
        root, work, layout = base / "root", base / "work", base / "oci"
        work.mkdir()
        layout.mkdir()
        gone = _fill(root, work, image_cache)
        layer_of_directory(root, base / "layer.tar")
        archive = write_archive(base / "image.tar", "localhost/all:1", [base / "layer.tar"],
                                ImageConfig())  # fmt: skip
        shutil.unpack_archive(archive.path, layout)
        tools = Tools(ScannerSettings(syft=str(syft), grype=sys.executable))
        document = asyncio.run(tools.sbom(layout, work))
        unpacked = unpack([base / "layer.tar"], PLENTY)
        packages = ownership.assign(sbom.parse(document.read_bytes()).artifacts, unpacked.image())
        yield Scanned(root, packages, frozenset(unpacked.root.files_under(b"/")), gone)


def test_every_owned_file_is_there_under_the_path_that_the_kernel_reports(scanned: Scanned) -> None:
    owned = {file for package in scanned.packages for file in package.files}
    root = os.fsencode(os.path.realpath(scanned.root))
    assert len(owned) > 5000
    for file in owned:
        if file in scanned.files:
            assert os.path.realpath(root + file) == root + file
            assert os.path.isfile(root + file)
        else:  # named by its source, of which only the bytecode is there
            assert file.endswith(b".py")


@pytest.mark.parametrize(
    "site", [f"opt/a/{SITE}", f"opt/b/{SITE}", f"opt/old/{SITE}", f"opt/hardlink/{SITE}",
             "usr/lib/python3/dist-packages"],
)  # fmt: skip
def test_python_packages_own_what_importlib_lists(scanned: Scanned, site: str) -> None:
    lines = ecosystems.run([sys.executable, "-c", _DISTRIBUTIONS, scanned.root / site], Path("/"))
    owners: dict[str, set[bytes]] = {}
    for package in scanned.packages:
        if package.type == "python":
            owners.setdefault(package.name.lower(), set()).update(package.files)
    listed = [line.split("\t") for line in lines.splitlines()]
    assert len(listed) > 20
    missing = {
        (name, real)
        for name, path in listed
        if (real := scanned.real(path)) and owner_path(real) not in owners[name]
    }
    assert missing == set()


def test_the_same_package_in_two_environments_is_two_packages(scanned: Scanned) -> None:
    for home in ("/opt/a/", "/opt/b/"):
        flask = scanned.one("python", "flask", home)
        assert all(file.startswith(home.encode()) for file in flask.files)
        assert flask.unobservable is None


def test_scripts_libraries_and_namespaces_of_wheels(scanned: Scanned) -> None:
    assert b"/opt/a/bin/flask" in scanned.one("python", "flask", "/opt/a").files
    bundled = [f for f in scanned.one("python", "pillow").files if b"/pillow.libs/" in f]
    assert any(b".so" in file for file in bundled)
    assert f"/opt/a/{SITE}/zope/interface/common/mapping.py".encode() in (
        scanned.one("python", "zope-interface").files
    )


def test_editable_installations_never_look_unused(scanned: Scanned) -> None:
    for name in ("ed1", "ed2"):
        pointing = scanned.one("python", name, f"/opt/a/{SITE}")
        assert pointing.unobservable is not None
    code = [f for f in scanned.one("python", "dev").files if kind(f) is not Kind.METADATA]
    assert code == [b"/src/dev/dev/__init__.py"]


@pytest.mark.parametrize("mode", ["hardlink", "symlink"])
def test_links_into_a_cache_are_followed_to_what_the_kernel_reports(
    scanned: Scanned, mode: str
) -> None:
    scanned.needs("uv")
    used = scanned.root / f"opt/{mode}/{SITE}/flask/app.py"
    below = os.path.relpath(os.path.realpath(used), os.path.realpath(scanned.root))
    reported = f"/{below}".encode()
    assert (mode == "symlink") == reported.startswith(b"/root/.cache/")
    owners = [p for p in scanned.packages if reported in p.files]
    assert {(p.name, p.version, p.unobservable) for p in owners} == {("flask", "2.2.5", None)}


def test_npm_nested_hoisted_and_bundled(scanned: Scanned) -> None:
    scanned.needs("npm")
    at = "/srv/npm/node_modules"
    debug = scanned.one("npm", "debug", at)
    assert f"{at}/debug/node_modules/bundled/index.js".encode() in debug.files
    assert f"{at}/debug/dist/package.json".encode() in debug.files
    assert f"{at}/debug/node_modules/ms/index.js".encode() not in debug.files
    installed = [p for p in scanned.packages if any(f.startswith(b"/srv/npm/") for f in p.files)]
    versions = {p.version: p.files for p in installed if p.name == "ms"}
    assert f"{at}/debug/node_modules/ms/index.js".encode() in versions["2.0.0"]
    assert f"{at}/ms/index.js".encode() in versions["2.1.3"]
    shop = scanned.one("npm", "shop", "/srv/npm/")
    nested = [file for file in shop.files if file.startswith(at.encode())]
    assert nested == [f"{at}/.package-lock.json".encode()]


def test_pnpm_packages_own_what_a_program_opens_and_the_store(scanned: Scanned) -> None:
    """Those in node_modules are hard links of files in the store."""
    scanned.needs("pnpm")
    entry = os.path.realpath(scanned.root / "srv/pnpm/node_modules/debug/src/index.js")
    reported = f"/{os.path.relpath(entry, os.path.realpath(scanned.root))}".encode()
    assert b"/.pnpm/" in reported
    debug = scanned.one("npm", "debug", "/srv/pnpm")
    assert reported in debug.files
    assert any(file.startswith(b"/root/.pnpm-store/") for file in debug.files)
    assert debug.unobservable is None


def test_rpm_and_pacman_packages_own_what_their_databases_list(scanned: Scanned) -> None:
    scanned.needs("rpm", "alpm")
    listed = ecosystems.run(
        ["rpm", "--root", scanned.root, "--dbpath", "/var/lib/rpm", "-ql", "alpha"], Path("/")
    )
    assert {os.fsdecode(f) for f in scanned.one("rpm", "alpha").files} == set(listed.split())
    assert scanned.one("alpm", "gamma").files == (b"/usr/bin/gamma",)


def test_apk_packages_own_what_a_real_database_lists(scanned: Scanned) -> None:
    """Their paths go through the usr-merge of this root; a link owns nothing but leads to its file.
    Busybox lists /bin/sh, which is a link to Debian's shell here.
    """
    scanned.needs("apk")
    lists = ecosystems.apk_lists(scanned.root)
    assert {"musl", "busybox", "apk-tools", "libssl1.1"} <= set(lists)
    top = os.path.realpath(scanned.root)
    for name, paths in lists.items():
        real = [f"{top}/{path}" for path in paths if not os.path.islink(f"{top}/{path}")]
        files = {os.fsdecode(file) for file in scanned.one("apk", name).files}
        assert files == {os.path.realpath(path).removeprefix(top) for path in real}, name
    assert b"/usr/lib/ld-musl-x86_64.so.1" in scanned.one("apk", "musl").files


def test_deb_packages_own_what_dpkg_lists(scanned: Scanned) -> None:
    missing = set()
    for package in (p for p in scanned.packages if p.type == "deb"):
        asked = subprocess.run(
            ["dpkg-query", f"--admindir={scanned.root}/var/lib/dpkg", "-L", package.name],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        listed = [line for line in asked.stdout.splitlines() if line.startswith("/")]
        reals = {scanned.real(f"{scanned.root}{path}") for path in listed} - {None}
        missing |= {(package.name, real) for real in reals if real not in package.files}
    # dpkg-query -L names a diverted file by its first name.
    assert missing == set()


def test_deb_diversions_alternatives_and_files_made_at_installation(scanned: Scanned) -> None:
    coreutils, curl = scanned.one("deb", "coreutils"), scanned.one("deb", "curl")
    assert b"/usr/bin/curl.real" in curl.files
    assert b"/usr/bin/tac" in coreutils.files  # diverted without being moved
    assert os.path.realpath(scanned.root / "etc/alternatives/pager").endswith("usr/bin/head")
    assert b"/usr/bin/head" in coreutils.files
    bundle = b"/etc/ssl/certs/ca-certificates.crt"
    assert bundle in scanned.one("deb", "ca-certificates").files


def test_debians_python_packages_own_the_files_of_their_deb(scanned: Scanned) -> None:
    for name, deb in (("pyyaml", "python3-yaml"), ("six", "python3-six")):
        python = scanned.one("python", name, "/usr/lib/python3/")
        assert set(scanned.one("deb", deb).files) <= set(python.files)
    r = scanned.one("R-package", "digest")
    assert b"/usr/lib/R/site-library/digest/R/digest.rdb" in r.files


def test_gems_and_composer_packages_own_their_directories(scanned: Scanned) -> None:
    scanned.needs("gem", "composer")
    gems = b"/usr/local/lib/ruby/gems/3.1.0/gems/epsilon-1.0/"
    assert set(scanned.one("gem", "epsilon").files) == {gems + b"exe/epsilon",
                                                        gems + b"lib/epsilon.rb"}  # fmt: skip
    zeta = scanned.one("php-composer", "acme/zeta")
    assert b"/srv/php/vendor/acme/zeta/src/Answer.php" in zeta.files


def test_jars_own_the_outer_archive(scanned: Scanned) -> None:
    places = {p.name: p.files for p in scanned.packages if p.type == "java-archive"}
    assert places["one"] == places["two"] == (b"/opt/j/shaded.jar",)
    assert places["inner"] == places["app"] == (b"/opt/j/app.war",)


def test_modules_of_one_binary_own_it_together(scanned: Scanned) -> None:
    scanned.needs("go", "rust")
    for module in ("stdlib", "rsc.io/quote", "golang.org/x/text"):
        assert scanned.one("go-module", module).files == (b"/usr/local/bin/shop",)
    assert scanned.one("rust-crate", "smallvec").files == (b"/usr/local/bin/crates",)


def test_copies_of_a_packages_code_are_its_own(scanned: Scanned) -> None:
    """As a Dockerfile makes them: of a library, of a module, of a program under another name."""
    copied = {("deb", "libssl3"): b"/app/lib/libssl.so.3", ("deb", "curl"): b"/app/fetch",
              ("python", "werkzeug"): b"/app/routing.py"}  # fmt: skip
    for (language, name), path in copied.items():
        owners = [p for p in scanned.packages if p.type == language and path in p.files]
        assert {p.name.lower() for p in owners} == {name}, path


def test_a_bundle_runs_in_the_place_of_npm_packages(scanned: Scanned) -> None:
    """strace says so: node opens the bundle alone."""
    scanned.needs("bundle")
    home = scanned.root / "srv/bundled"
    opened = _opened(home, ["node", "dist/shop.js"])
    assert any(path.endswith("/dist/shop.js") for path in opened)
    assert not any("/node_modules/" in path for path in opened)
    ms = scanned.one("npm", "ms", "/srv/bundled/")
    assert ms.perhaps_in == (b"/srv/bundled/dist/shop.js",)
    assert scanned.one("npm", "ms", "/srv/npm/node_modules/ms/").perhaps_in == ()


def test_shared_classes_run_in_the_place_of_jars(scanned: Scanned) -> None:
    """strace says so: the JVM looks at the size and time of the jar and never opens it."""
    scanned.needs("shared classes")
    home = scanned.root / "opt/shared"
    command = ["java", "-XX:SharedArchiveFile=shop.jsa", "-cp", "shop.jar:lent-1.0.jar", "Shop"]
    opened = _opened(home, command)
    assert any(path.endswith("/shop.jsa") for path in opened)
    assert not any(path.endswith(".jar") for path in opened)
    lent = scanned.one("java-archive", "lent")
    assert lent.unobservable == "the shared classes in /opt/shared/shop.jsa may be its own"


def _opened(home: Path, command: list[str]) -> list[str]:
    """The files that a program opened."""
    ecosystems.need("strace", "apt-get install strace")
    with tempfile.NamedTemporaryFile() as log:
        trace = ["strace", "-f", "-y", "-e", "trace=open,openat,openat2", "-o", log.name]
        ecosystems.run([*trace, *command], home)
        return re.findall(r" = \d+<(/[^>]*)>", Path(log.name).read_text("utf-8", "replace"))
