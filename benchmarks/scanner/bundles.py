"""``python -m benchmarks.scanner.bundles``: which npm packages bundles hold, by their bundlers' own
word and by the scanner's.

Every entry loads one package, whole or a function of it, and is bundled and minified. The bundler
says which modules it took; the scanner sees an image with the packages in one place and one bundle
in another, and goes by its strings. Needs npm, Node.js and the network; packages stay in the cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.scanner.bundle_entries import BUNDLERS, ENTRIES, PACKAGES, Bundler
from tests.support import mapped
from vexstream import bundled_lines
from vexstream.bundled_strings import Strings, is_aside, is_bundled
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


def bundled(bundler: Bundler, cache: Path, only: str) -> tuple[Path, Path]:
    """Where the packages and the bundles are."""
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
    return home, out


def figures(home: Path, out: Path, syft: Path) -> Figures:
    """Has the scanner look at the packages and at each bundle alone, and compares."""
    held: dict[str, list[str]] = json.loads((out / "held.json").read_text())
    with tempfile.TemporaryDirectory(prefix="vx-bundles-", dir=out.parent) as work:
        root = Path(work, "root")
        (root / "build").mkdir(parents=True)
        subprocess.run(["cp", "-al", home / "node_modules", root / "build"], check=True)
        packages = mapped.packages(root, Path(work), syft)
    owners = bundled_lines.owners(packages)
    known = _strings(home, owners)
    found = Figures(len(held))
    for name, modules in held.items():
        true: dict[int, list[str]] = defaultdict(list)
        for module in modules:
            for number in owners.get(b"/build/" + module.encode(), ()):
                true[number].append(module.removeprefix("node_modules/"))
        _compare(found, name, (out / name).read_bytes(), packages, known, true)
    return found


def _strings(home: Path, owners: Mapping[bytes, Sequence[int]]) -> Strings:
    """What the scanner keeps of the packages."""
    known = Strings()
    for path, numbers in owners.items():
        content = (home / path.decode().removeprefix("/build/")).read_bytes()
        if path.endswith(NAME):
            known.needs.describe(numbers, path, content)
        elif not is_aside(path):
            known.compare(numbers, path, content)
    return known


def _compare(
    figures: Figures,
    name: str,
    bundle: bytes,
    packages: Sequence[Package],
    known: Strings,
    true: Mapping[int, list[str]],
) -> None:
    path = f"/srv/{name}".encode()
    script = Script(path, len(bundle))
    script.feed(bundle)
    script.close()
    strings = replace(known, _paths=[], _words={}, _loaded={}, minified=0)
    strings.begin(path, minified=script.is_minified())
    strings.add(bundle)
    found = strings.found(packages)
    silent = found.silent if script.is_minified() else ()
    names = {packages[number].name for number in true}
    for number, package in enumerate(packages):
        if not is_bundled(package):
            continue
        said = f"{package.name}@{package.version}"
        told, left = number in found.held, number in found.perhaps or number in silent
        if number in true:
            figures.told += told
            figures.left_open += left and not told
            if not told and not left:
                figures.missed.append((name, f"{said} ({', '.join(true[number][:4])})"))
        else:
            figures.idle += 1
            figures.noise += left and not told
            if told and package.name not in names:
                figures.wrong.append((name, said))


def main() -> None:
    """Bundles, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/bundles")
    parser.add_argument("--bundler", choices=[one.name for one in BUNDLERS])
    parser.add_argument("--only", default="", help="part of an entry's name")
    parser.add_argument("--again", action="store_true", help="look at bundles that are there")
    arguments = parser.parse_args()
    syft = Path(shutil.which("syft") or f"{sysconfig.get_path('scripts')}/syft")
    lines, remarks = [_HEAD], []
    for bundler in BUNDLERS:
        if arguments.bundler not in (None, bundler.name):
            continue
        cache = arguments.cache.absolute()
        if arguments.again:
            place = cache / "packages", cache / f"out-{bundler.name}"
        else:
            place = bundled(bundler, cache, arguments.only)
        found = figures(*place, syft)
        lines.append(found.line(bundler.name))
        remarks += [f"{bundler.name} missed {said} in {where}" for where, said in found.missed]
        remarks += [f"{bundler.name} told {said} in {where}" for where, said in found.wrong]
        print(lines[-1], flush=True)
    print("\n".join([*lines, "", *remarks]))


if __name__ == "__main__":
    main()
