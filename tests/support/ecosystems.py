"""Root file systems of many ecosystems, filled by each ecosystem's own installer.

Each function puts packages below a root folder as an image build would, and skips the test, in
words, where this machine has no such installer. What cannot be fetched from a registry is built
here from a few lines and then installed by the real tool.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from services.local import image_base
from services.local.process import MissingPrerequisiteError

_SECONDS = 180
_SETUP = "from setuptools import setup; setup(name={name!r}, version='1', packages=[{module!r}])\n"
_SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: test
License: MIT
%description
test
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/usr/share/doc/{name}
echo program > %{{buildroot}}/usr/bin/{name}
echo words > %{{buildroot}}/usr/share/doc/{name}/README
%files
{bin}/{name}
/usr/share/doc/{name}/README
"""


def debian(root: Path, cache: Path) -> None:
    """A Debian with Python packages of its own, a diversion and an alternative."""
    try:
        base = image_base.debian_base(cache, lambda _: None)
    except MissingPrerequisiteError as error:
        pytest.skip(str(error))
    image_base.unpack(base, root)
    debs = root / "debs"
    debs.mkdir()
    debs.chmod(0o777)  # apt fetches as a user of its own
    run(["apt-get", "download", "-q", "python3-yaml", "python3-six", "r-cran-digest"], debs)
    names = [f"/debs/{path.name}" for path in debs.iterdir()]
    inside = [
        ["dpkg-divert", "--add", "--rename", "--divert", "/usr/bin/curl.real", "/usr/bin/curl"],
        ["dpkg-divert", "--add", "--no-rename", "--divert", "/usr/bin/tac.real", "/usr/bin/tac"],
        ["update-alternatives", "--install", "/usr/bin/pager", "pager", "/usr/bin/head", "1000"],
        ["dpkg", "--unpack", *names],
    ]
    for command in inside:
        image_base.run_inside(root, command)
    shutil.rmtree(debs)


def installed_debs(root: Path, *names: str) -> None:
    """Packages of this machine's own Debian, with their files and their place in dpkg's lists."""
    need("dpkg-query", "this machine is no Debian")
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    write(root, {"etc/os-release": 'ID=debian\nVERSION_ID="12"\n'})
    for merged in ("bin", "lib", "lib64", "sbin"):
        if Path("/", merged).is_symlink() and not os.path.lexists(root / merged):
            (root / "usr" / merged).mkdir(parents=True, exist_ok=True)
            (root / merged).symlink_to(f"usr/{merged}")
    for name in names:
        with status.open("a") as stanzas:
            stanzas.write(run(["dpkg-query", "--status", name], Path("/")) + "\n")
        listed = run(["dpkg-query", "--listfiles", name], Path("/"))
        write(root, {f"var/lib/dpkg/info/{name}.list": listed})
        for path in map(Path, listed.splitlines()):
            there = root / path.relative_to("/")
            if (path.is_symlink() or path.is_file()) and not os.path.lexists(there):
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, there, follow_symlinks=False)


def unpacked_debs(root: Path, work: Path, *names: str) -> None:
    """Packages of Debian without scripts of their own, as dpkg unpacks them."""
    need("apt-get", "this machine is no Debian")
    debs, database = work / "debs", root / "var/lib/dpkg"
    debs.mkdir()
    debs.chmod(0o777)  # apt fetches as a user of its own
    run(["apt-get", "download", "-q", *names], debs)
    write(root, {"etc/os-release": 'ID=debian\nVERSION_ID="12"\n'})
    for folder in ("info", "updates", "triggers"):
        (database / folder).mkdir(parents=True, exist_ok=True)
    (database / "status").touch()
    run(["dpkg", f"--root={root}", "--force-depends", "--install", *debs.iterdir()], work)


def need(program: str, how: str) -> str:
    """Path of a program, or a skipped test that says how to get it."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: {how}")
    return found


def run(
    command: Sequence[str | Path],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    seconds: int = _SECONDS,
) -> str:
    """Runs an installer; its output is the failure's text."""
    done = subprocess.run(
        list(command), cwd=folder, env={**os.environ, **(variables or {})}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Files by their path below the root."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def venv(root: Path, place: str, *wanted: str) -> Path:
    """A virtual environment with packages from PyPI; its site-packages."""
    home = root / place
    run([sys.executable, "-m", "venv", "--without-pip", home], root)
    pip(home, *wanted)
    return next(home.glob("lib/python3*/site-packages"))


def pip(home: Path, *arguments: str | Path) -> None:
    """pip install into a virtual environment."""
    pip_ = [sys.executable, "-m", "pip", "--python", home / "bin/python", "--no-input",
            "--disable-pip-version-check", "install", "--quiet", *arguments]  # fmt: skip
    run(pip_, home)


def project(folder: Path, name: str, module: str, *, backend: str = "setuptools") -> Path:
    """Sources of a Python package with one module directory."""
    build = {"setuptools": "setuptools.build_meta", "hatchling": "hatchling.build"}[backend]
    write(folder, {
        f"{module}/__init__.py": "ANSWER = 42\n",
        "pyproject.toml": f'[build-system]\nrequires=["{backend}"]\nbuild-backend="{build}"\n'
        f'[project]\nname="{name}"\nversion="1"\n',
    })  # fmt: skip
    return folder


def old_project(folder: Path, name: str, module: str) -> Path:
    """The same with a setup.py alone, as before 2021."""
    write(folder, {
        f"{module}/__init__.py": "ANSWER = 42\n",
        "setup.py": _SETUP.format(name=name, module=module),
    })  # fmt: skip
    return folder


def npm(root: Path, place: str, dependencies: Mapping[str, str], *, pnpm: bool = False) -> Path:
    """An application with packages of the npm registry; its folder."""
    program = need("npm", "apt-get install npm")
    home = root / place
    manifest = {"name": "shop", "version": "1.0.0", "dependencies": dict(dependencies)}
    write(home, {"package.json": json.dumps(manifest), "index.js": ""})
    if pnpm:
        command = [program, "exec", "--yes", "pnpm@9.15.9", "--", "install",
                   "--store-dir", str(root / "root/.pnpm-store")]  # fmt: skip
    else:
        command = [program, "install", "--no-audit", "--no-fund"]
    run([*command, "--ignore-scripts"], home)
    return home


def rpm(root: Path, work: Path, names: Sequence[str]) -> None:
    """Packages built and installed by rpm; their spec names /bin, which is a symlink."""
    need("rpmbuild", "apt-get install rpm")
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    if not (root / "bin").exists():
        (root / "bin").symlink_to("usr/bin")
    for name in names:
        spec = work / f"{name}.spec"
        spec.write_text(_SPEC.format(name=name, bin="/usr/bin"))
        run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {work}/rpmbuild",
             "--define", "_build_id_links none", spec], work)  # fmt: skip
    built = sorted((work / "rpmbuild/RPMS").glob("*/*.rpm"))
    run(["rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "-i", *built], work)


def alpm(root: Path, work: Path, name: str) -> None:
    """A package that pacman installed."""
    program = need("pacman", "apt-get install pacman-package-manager")
    package = work / f"{name}-1-1-any.pkg.tar"
    tree = gzip.compress(f"#mtree\n./usr/bin/{name} type=file mode=755 size=8\n".encode())
    info = (
        f"pkgname = {name}\npkgbase = {name}\npkgver = 1-1\npkgdesc = test\narch = any\nsize = 8\n"
    )
    with tarfile.open(package, "w") as archive:
        members = {".PKGINFO": info.encode(), ".MTREE": tree, f"usr/bin/{name}": b"program\n"}
        for path, content in members.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    (root / "var/lib/pacman").mkdir(parents=True, exist_ok=True)
    config = work / "pacman.conf"
    config.write_text(
        "[options]\nArchitecture = any\nSigLevel = Never\nLocalFileSigLevel = Never\n"
    )
    run([program, "--root", root, "--dbpath", root / "var/lib/pacman", "--config", config,
         "--noconfirm", "--nodeps", "-U", package], work)  # fmt: skip


def apk(root: Path) -> None:
    """A database that apk wrote on an Alpine system, and its files as far as the root has none.

    No registry here has apk itself. The database is test data of the Syft from which Grype is
    built, and lies in Go's module cache since then (Apache-2.0).
    """
    database = root / "lib/apk/db/installed"
    database.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_recorded_database(), database)
    for name, paths in apk_lists(root).items():
        for path in paths:
            if not os.path.lexists(root / path):
                write(root, {path: f"{name} {path}\n"})
    (root / "lib/libc.musl-x86_64.so.1").unlink()
    (root / "lib/libc.musl-x86_64.so.1").symlink_to("ld-musl-x86_64.so.1")


def apk_lists(root: Path) -> dict[str, list[str]]:
    """What the database says: name of a package -> its files (apk-tools, "APK installed database":
    P a package, F a folder, R a file in the folder before)."""
    lists: dict[str, list[str]] = {}
    name = folder = ""
    for line in (root / "lib/apk/db/installed").read_text().splitlines():
        if line.startswith("P:"):
            name = line[2:]
            lists[name] = []
        elif line.startswith("F:"):
            folder = line[2:]
        elif line.startswith("R:"):
            lists[name].append(f"{folder}/{line[2:]}")
    return lists


def _recorded_database() -> Path:
    go = need("go", "see go.dev/doc/install")
    modules = Path(run([go, "env", "GOMODCACHE"], Path("/")).strip())
    syft = modules.glob("github.com/anchore/syft@*/syft/pkg/cataloger/alpine")
    found = sorted(one for folder in syft for one in folder.glob("test*/multiple-2/lib/apk/db/*"))
    if not found:
        pytest.skip("no database of apk in Go's module cache: scripts/bootstrap test")
    return found[-1]


def gem(root: Path, work: Path, name: str) -> None:
    """A gem that RubyGems built and installed."""
    program = need("gem", "apt-get install ruby")
    write(work, {
        f"lib/{name}.rb": "ANSWER = 42\n",
        f"exe/{name}": "#!/usr/bin/env ruby\nrequire 'x'\n",
        f"{name}.gemspec": f"Gem::Specification.new do |s|\n s.name='{name}'; s.version='1.0';"
        f" s.summary='t'; s.authors=['t']; s.files=['lib/{name}.rb','exe/{name}'];"
        f" s.bindir='exe'; s.executables=['{name}']\nend\n",
    })  # fmt: skip
    run([program, "build", f"{name}.gemspec"], work)
    home = root / "usr/local/lib/ruby/gems/3.1.0"
    run([program, "install", "--local", "--force", "--no-document", "--install-dir", home,
         "--bindir", root / "usr/local/bin", f"{name}-1.0.gem"], work)  # fmt: skip


def composer(root: Path, work: Path, name: str, *, symlink: bool = False) -> Path:
    """A package that Composer installed from a folder; the application's folder."""
    program = need("composer", "apt-get install composer")
    write(work, {
        "composer.json": json.dumps({"name": name, "version": "1.0.0",
                                     "autoload": {"psr-4": {"Acme\\": "src/"}}}),
        "src/Answer.php": "<?php\nnamespace Acme;\nclass Answer {}\n",
    })  # fmt: skip
    home = root / "srv/php"
    write(home, {"composer.json": json.dumps({
        "require": {name: "1.0.0"},
        "repositories": [
            {"type": "path", "url": str(work), "options": {"symlink": symlink}},
            {"packagist.org": False},
        ],
    })})  # fmt: skip
    run([program, "install", "--no-interaction", "--quiet"], home,
        {"COMPOSER_ALLOW_SUPERUSER": "1", "COMPOSER_HOME": str(work / "home")})  # fmt: skip
    return home


def jar(path: Path, coordinates: Sequence[str], nested: Mapping[str, bytes] | None = None) -> bytes:
    """A jar that holds several artifacts, as a shading build makes it, and jars within."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        for coordinate in coordinates:
            group, name, version = coordinate.split(":")
            properties = f"groupId={group}\nartifactId={name}\nversion={version}\n"
            archive.writestr(f"META-INF/maven/{group}/{name}/pom.properties", properties)
            archive.writestr(f"{group.replace('.', '/')}/{name}/A.class", b"\xca\xfe\xba\xbe")
        for name, content in (nested or {}).items():
            archive.writestr(name, content)
    return path.read_bytes()


def go(root: Path, work: Path, place: str) -> None:
    """A program with one module of the Go proxy beside its own."""
    program = need("go", "see go.dev/doc/install")
    write(work, {
        "go.mod": "module example.com/shop\ngo 1.21\nrequire rsc.io/quote v1.5.2\n",
        "main.go": 'package main\nimport "rsc.io/quote"\nfunc main() { println(quote.Hello()) }\n',
    })  # fmt: skip
    variables = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    run([program, "build", "-o", root / place, "."], work, variables)


def rust(root: Path, work: Path, place: str) -> None:
    """A program with the list of crates that cargo-auditable links in (section .dep-v0)."""
    compiler = need("rustc", "see rust-lang.org/tools/install")
    objcopy = need("objcopy", "apt-get install binutils")
    write(work, {"main.rs": "fn main() {}\n"})
    crates = [
        {"name": "smallvec", "version": "1.6.0", "source": "crates.io"},
        {"name": "shop", "version": "1.0.0", "source": "local", "root": True, "dependencies": [0]},
    ]
    (work / "dep").write_bytes(zlib.compress(json.dumps({"packages": crates}).encode()))
    run([compiler, "main.rs", "-o", "program"], work)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    run([objcopy, "--add-section", ".dep-v0=dep", "program", root / place], work)


def uv(root: Path, work: Path, place: str, mode: str, *wanted: str) -> None:
    """A virtual environment that uv fills with links into its cache, which stays in the image."""
    if not (work / "tools").exists():
        venv(work, "tools", "uv")
    home = root / place
    run([sys.executable, "-m", "venv", "--without-pip", home], root)
    run([work / "tools/bin/uv", "pip", "install", "--python", home / "bin/python", "--link-mode",
         mode, "--cache-dir", root / f"root/.cache/{home.name}", *wanted], work)  # fmt: skip


def bundle(home: Path, place: str, script: str) -> None:
    """A script with all that it requires in one minified file, as a build step writes it."""
    need("npm", "apt-get install npm")
    write(home, {"src/index.js": script})
    run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/index.js", "--bundle", "--minify",
         "--platform=node", f"--outfile={place}", "--log-level=error"], home)  # fmt: skip


_SHOP = """
public class Shop { public static void main(String[] a) { org.example.Lent.hello(); } }
"""
_LENT = """
package org.example;
public class Lent { public static void hello() { System.out.println("hello"); } }
"""


def shared_classes(root: Path, work: Path, place: str) -> list[str]:
    """A program with a library, and an archive of the classes of both; the command that runs it."""
    for program in ("javac", "jar", "java"):
        need(program, "apt-get install default-jdk-headless")
    home = root / place
    home.mkdir(parents=True)
    write(work, {"Shop.java": _SHOP, "Lent.java": _LENT})
    run(["javac", "-d", "classes", "Shop.java", "Lent.java"], work)
    run(["jar", "--create", "--file", home / "shop.jar", "-C", "classes", "Shop.class"], work)
    lent = (work / "classes/org/example/Lent.class").read_bytes()
    jar(home / "lent-1.0.jar", ["org.example:lent:1.0"], {"org/example/Lent.class": lent})
    command = ["java", "-cp", "shop.jar:lent-1.0.jar", "Shop"]
    run([command[0], "-XX:ArchiveClassesAtExit=shop.jsa", *command[1:]], home)
    return [command[0], "-XX:SharedArchiveFile=shop.jsa", *command[1:]]


_WHEELS = ("dotnetcore2==3.1.23", "azureml-dataprep==3.1.4")
_ENGINE = "azureml/dataprep/api/engineapi/bin"


def dotnet(root: Path, work: Path, place: str) -> list[str]:
    """A published .NET application with a hundred NuGet packages, and the command that starts it.

    Microsoft's own wheels bring the application and a runtime: nothing is asked of NuGet.
    """
    options = ["--no-input", "--disable-pip-version-check", "--quiet", "--no-deps", "--no-compile"]
    run([sys.executable, "-m", "pip", "install", *options, "--target", work / "wheels", *_WHEELS],
        work)  # fmt: skip
    home = root / place
    shutil.copytree(work / "wheels" / _ENGINE, home)
    host = work / "wheels/dotnetcore2/bin/dotnet"
    host.chmod(0o755)
    return [str(host), str(home / "Microsoft.DPrep.Execution.EngineHost.dll")]
