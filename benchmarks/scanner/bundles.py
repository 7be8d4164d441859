"""``python -m benchmarks.scanner.bundles``: which npm packages bundles hold, by their bundlers' own
word and by the scanner's.

Every entry loads one package, whole or a function of it, and is bundled and minified. The bundler
says which modules it took; the scanner sees an image with the packages in one place and one bundle
in another, with those that it imports, and goes by its strings, and by its lines where it was not
minified. What Next.js, Nuxt
and SvelteKit write for an application is looked at as well (bundle_next.py, bundle_vite.py). Needs
npm, Node.js and the network; packages stay in the cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.scanner import bundle_next, bundle_vite
from benchmarks.scanner.bundle_entries import BUNDLERS, ENTRIES, PACKAGES, Bundler
from services.local.tools import find_tool
from tests.support import mapped
from vexstream import bundled_sources
from vexstream.bundled_imports import Imports
from vexstream.bundled_lines import Lines
from vexstream.bundled_sources import is_aside, is_bundled
from vexstream.bundled_strings import Strings
from vexstream.npm_manifests import NAME
from vexstream.scan import Package
from vexstream.scripts import Script

ROOT = Path(__file__).parents[2]
_SCRIPTS = Path(__file__).parent / "bundlers"
_HEAD = (
    "| bundler | bundles | packages held | told as files | left open | missed "
    "| told, and not held | left open, and not held |\n|---|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass(slots=True)
class Figures:
    """What came out for one bundler: pairs of a bundle and a package."""

    bundles: int = 0
    told: int = 0
    left_open: int = 0
    missed: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    noise: int = 0
    """Open in vain, but for what is so by what a script imports: that is used with it."""
    idle: int = 0
    """Packages that the bundle does not hold."""

    def line(self, name: str) -> str:
        """A row of the table."""
        held = self.told + self.left_open + len(self.missed)
        share = f"{self.noise} of {self.idle}"
        cells = (name, self.bundles, held, self.told, self.left_open, len(self.missed),
                 len(self.wrong), share)  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


def installed(home: Path, packages: Sequence[str]) -> Path:
    """A folder into which npm has installed the packages, once."""
    done = home / ".installed"
    if not done.exists() or done.read_text() != "\n".join(packages):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text('{"name": "shop", "version": "1.0.0"}')
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps",
             "--loglevel=error", *packages],
            cwd=home, check=True,
        )  # fmt: skip
        done.write_text("\n".join(packages))
    return home


def bundled(bundler: Bundler, cache: Path, only: str) -> None:
    """Installs the packages and bundles the entries."""
    tools = installed(cache / f"tools-{bundler.script}", bundler.tools)
    home = installed(cache / "packages", PACKAGES)
    out = cache / f"out-{bundler.name}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (home / "src").mkdir(exist_ok=True)
    entries = []
    for name, loaded in ENTRIES.items():
        if only in name and (text := bundler.text(loaded)):
            path = home / "src" / f"{name}.js"
            path.write_text(text)
            entries.append({"name": name, "file": str(path)})
    (out / "entries.json").write_text(json.dumps(entries))
    subprocess.run(
        ["node", _SCRIPTS / f"{bundler.script}.js", out, out / "entries.json"], check=True,
        env={**os.environ, "NODE_PATH": str(tools / "node_modules")},
    )  # fmt: skip


def figures(home: Path, out: Path, syft: Path) -> Figures:
    """Has the scanner look at the packages and at each bundle alone, and compares."""
    held: dict[str, list[str]] = json.loads((out / "held.json").read_text())
    with tempfile.TemporaryDirectory(prefix="vx-bundles-", dir=out.parent) as work:
        root = Path(work, "root")
        (root / "build").mkdir(parents=True)
        subprocess.run(["cp", "-al", home / "node_modules", root / "build"], check=True)
        packages = mapped.packages(root, Path(work), syft)
    owners = bundled_sources.owners(packages)
    contents = {path: (home / path.decode().removeprefix("/build/")).read_bytes()
                for path in owners}  # fmt: skip
    known = _strings(contents, owners)
    lines = _lines(out, held, contents, owners)
    by_lines = set(lines.held(packages))
    found, seen, imports = Figures(len(held)), [], Imports()
    for number, name in enumerate(held):
        told = {one for path, one in by_lines if path == _path(name)}
        content = (out / name).read_bytes()
        imports.add(number, _path(name), content)
        seen.append(_Seen.of(_path(name), content, packages, known, told))
    paths = [_path(name) for name in held]
    for number, (name, modules) in enumerate(held.items()):
        true: dict[int, list[str]] = defaultdict(list)
        for module in modules:
            for one in owners.get(b"/build/" + module.encode(), ()):
                true[one].append(module.removeprefix("node_modules/"))
        along = [other for other in range(len(paths))
                 if other != number and imports.along(1 << other, paths) >> number & 1]  # fmt: skip
        more = {one for other in along for one in seen[other].left | seen[other].told}
        _count(found, name, packages, seen[number], more, true)
    return found


def _path(name: str) -> bytes:
    return f"/srv/{name}".encode()


def _script(path: bytes, content: bytes) -> Script:
    script = Script(path)
    script.feed(content)
    script.close()
    return script


def _lines(
    out: Path,
    names: Iterable[str],
    contents: Mapping[bytes, bytes],
    owners: Mapping[bytes, Sequence[int]],
) -> Lines:
    """What the scanner keeps of the bundles that were not minified, and of the packages."""
    lines = Lines()
    for name in names:
        content = (out / name).read_bytes()
        if not _script(_path(name), content).is_minified():
            lines.add(_path(name), content)
    for path, numbers in owners.items():
        if not path.endswith(NAME):
            lines.compare(numbers, contents[path])
    return lines


def _strings(contents: Mapping[bytes, bytes], owners: Mapping[bytes, Sequence[int]]) -> Strings:
    """What the scanner keeps of the packages."""
    known = Strings(plain=1)  # the lines of packages count
    for path, numbers in owners.items():
        content = contents[path]
        if path.endswith(NAME):
            known.needs.describe(numbers, path, content)
        elif not is_aside(path):
            known.compare(numbers, path, content)
    return known


@dataclass(frozen=True, slots=True)
class _Seen:
    """The packages that a script holds, and may hold, by the scanner's word."""

    told: Set[int]
    left: Set[int]

    @classmethod
    def of(
        cls, path: bytes, bundle: bytes, packages: Sequence[Package], known: Strings,
        by_lines: Set[int],
    ) -> "_Seen":  # fmt: skip
        """What is said of it when there is no other one."""
        script = _script(path, bundle)
        strings = known.without_scripts()
        strings.begin(path, minified=script.is_minified(), bundle=script.bundle)
        strings.add(bundle)
        found = strings.found([
            replace(package, files=(*package.files, path)) if number in by_lines else package
            for number, package in enumerate(packages)
        ])  # fmt: skip
        silent: Set[int] = set()
        if script.bundle and script.is_minified():
            silent = found.silent
        elif strings.plain & ~strings.named:
            silent = found.silent_in_plain
        return cls(found.held.keys() | by_lines, found.perhaps.keys() | silent)


def _count(
    figures: Figures,
    name: str,
    packages: Sequence[Package],
    seen: _Seen,
    along: Set[int],
    true: Mapping[int, list[str]],
) -> None:
    names = {packages[number].name for number in true}
    for number, package in enumerate(packages):
        if not is_bundled(package):
            continue
        said = f"{package.name}@{package.version}"
        is_told, is_left = number in seen.told, number in seen.left
        if number in true:
            figures.told += is_told
            is_left = is_left or number in along
            figures.left_open += is_left and not is_told
            if not is_told and not is_left:
                figures.missed.append((name, f"{said} ({', '.join(true[number][:4])})"))
        else:
            figures.idle += 1
            figures.noise += is_left and not is_told
            if is_told and package.name not in names:
                figures.wrong.append((name, said))


def _places(arguments: argparse.Namespace) -> Iterator[tuple[str, Path, Path]]:
    """Each bundler, and where the packages and the bundles are."""
    cache = arguments.cache.absolute()
    for bundler in BUNDLERS:
        if arguments.bundler in (None, bundler.name):
            if not arguments.again:
                bundled(bundler, cache, arguments.only)
            yield bundler.name, cache / "packages", cache / f"out-{bundler.name}"
    if arguments.bundler in (None, bundle_next.NAME):
        home, out = cache / "next", cache / "out-next"
        if not arguments.again:
            bundle_next.build(installed(home, bundle_next.PACKAGES), out)
        yield bundle_next.NAME, home, out
    for application in bundle_vite.APPLICATIONS:
        if arguments.bundler in (None, application.name):
            out = cache / f"out-{application.name}"
            if not arguments.again:
                home = installed(cache / application.folder, application.packages)
                bundle_vite.build(application, home, out)
            yield application.name, out / "packages", out


def main() -> None:
    """Bundles, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/bundles")
    applications = (bundle_next.NAME, *(one.name for one in bundle_vite.APPLICATIONS))
    parser.add_argument("--bundler", choices=[*(one.name for one in BUNDLERS), *applications])
    parser.add_argument("--only", default="", help="part of an entry's name")
    parser.add_argument("--again", action="store_true", help="look at bundles that are there")
    arguments = parser.parse_args()
    syft = find_tool("syft")
    lines, remarks = [_HEAD], []
    for name, home, out in _places(arguments):
        found = figures(home, out, syft)
        lines.append(found.line(name))
        remarks += [f"{name} missed {said} in {where}" for where, said in found.missed]
        remarks += [f"{name} told {said} in {where}" for where, said in found.wrong]
        print(lines[-1], flush=True)
    print("\n".join([*lines, "", *remarks]))


if __name__ == "__main__":
    main()
