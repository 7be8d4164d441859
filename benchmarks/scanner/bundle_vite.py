"""Applications of Nuxt and SvelteKit for ``benchmarks.scanner.bundles``: what their builds write
for the server and for browsers, each script a bundle, by the word of the Rollup in Vite and Nitro.

Both bundle in two steps: what Vite wrote for the server is a module for the next bundler. The
adapter of SvelteKit has no plugins; its source maps tell. Of the hundreds of packages of these
tools only those are looked at that the application needs or that are in a script.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

_SHOP = (
    "axios@1.7.2", "clsx@2.1.1", "date-fns@3.6.0", "dayjs@1.11.11", "graphql@16.9.0", "jose@5.6.3",
    "js-yaml@4.1.0", "jsonwebtoken@9.0.2", "lodash@4.17.21", "lodash-es@4.17.21", "marked@13.0.2",
    "nanoid@5.0.7", "semver@7.6.2", "uuid@10.0.0", "validator@13.12.0", "yargs@17.7.2",
    "zod@3.23.8",
)  # fmt: skip
_BUNDLERS = Path(__file__).parent / "bundlers"
_MODULES = "node_modules/"
_PACKAGE = re.compile(r"(?:node_modules/(?:@[^/]+/)?[^/]+/)+")


@dataclass(frozen=True, slots=True)
class Application:
    """One that is built; ``folder`` has its sources (bundlers/)."""

    name: str
    folder: str
    tools: tuple[str, ...]
    command: tuple[str, ...]
    built: tuple[str, ...]
    """Where the scripts are that run."""
    whole: bool = False
    """Nothing is left outside of bundles, and all are minified."""

    @property
    def packages(self) -> tuple[str, ...]:
        """What npm installs."""
        return (*self.tools, *_SHOP)


_NUXT = ("nuxt@3.12.4", "vue@3.4.38", "vue-router@4.4.3")
APPLICATIONS = (
    Application(
        "SvelteKit", "sveltekit",
        ("@sveltejs/kit@2.5.28", "@sveltejs/adapter-node@5.2.2", "svelte@4.2.19", "vite@5.4.6",
         "@sveltejs/vite-plugin-svelte@3.1.2"),
        ("npx", "vite", "build"), ("build/server", "build/client"),
    ),
    Application("Nuxt", "nuxt", _NUXT, ("npx", "nuxt", "build"), (".output",)),
    Application("Nuxt, whole", "nuxt", _NUXT, ("npx", "nuxt", "build"), (".output",), whole=True),
)  # fmt: skip


def build(application: Application, home: Path, out: Path) -> None:
    """Builds the application where its packages are; ``out`` takes the scripts, ``held.json``, and
    the packages that are looked at."""
    for place in (out, *(home / place for place in application.built)):
        shutil.rmtree(place, ignore_errors=True)
    out.mkdir()
    shutil.copytree(_BUNDLERS / application.folder, home, dirs_exist_ok=True)
    shutil.copy(_BUNDLERS / "modules.mjs", home)
    _need_nothing_later(home / "package.json")
    told = out / "modules.jsonl"
    subprocess.run(
        application.command, cwd=home, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "BUNDLERS_OUT": str(told), "NUXT_TELEMETRY_DISABLED": "1",
             "BUNDLERS_WHOLE": str(int(application.whole))},
    )  # fmt: skip
    words = _Words(told)
    held: dict[str, list[str]] = {}
    for path in _scripts(home, application.built):
        name = str(path.relative_to(home)).lstrip(".")
        held[name] = sorted(words.packaged(path))
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
    (out / "held.json").write_text(json.dumps(held))
    _take_along(home, out / "packages", held, application.packages)


def _need_nothing_later(manifest: Path) -> None:
    """SvelteKit's adapter leaves what the application depends on outside of its bundles."""
    known = json.loads(manifest.read_text())
    known["devDependencies"] = known.pop("dependencies", {}) | known.get("devDependencies", {})
    manifest.write_text(json.dumps({**known, "type": "module"}))


def _scripts(home: Path, places: Sequence[str]) -> Iterator[Path]:
    for place in places:
        for path in sorted((home / place).rglob("*")):
            if path.suffix in {".js", ".mjs"} and _MODULES not in str(path.relative_to(home)):
                yield path


def _take_along(
    home: Path, place: Path, held: Mapping[str, Sequence[str]], named: Sequence[str]
) -> None:
    """A folder with the packages that are in scripts, and those that the application names."""
    wanted = {f"{_MODULES}{one.rpartition('@')[0]}/" for one in named}
    wanted.update(
        match[0] for modules in held.values() for one in modules if (match := _PACKAGE.match(one))
    )
    for package in sorted(wanted):
        (place / package).parent.mkdir(parents=True, exist_ok=True)
        if not (place / package).exists():
            subprocess.run(["cp", "-al", home / package, place / package], check=True)


class _Words:
    """What was said of which modules are in which file."""

    def __init__(self, told: Path) -> None:
        self._told: dict[Path, list[str]] = {}
        self._copied: dict[str, Path] = {}
        for line in told.read_text().splitlines():
            said = json.loads(line)
            path = Path(said["file"])
            self._told[path] = said["modules"]
            if path.exists():
                self._copied[_checksum(path)] = path

    def packaged(self, script: Path, above: Set[Path] = frozenset()) -> set[str]:
        """The modules of packages in a script, by their paths from node_modules on."""
        found: set[str] = set()
        for module in self._modules(script):
            if _MODULES in module:
                found.add(module[module.index(_MODULES) :])
            elif (path := Path(module)) not in above and path.is_file():
                found |= self.packaged(path, above | {script})
        return found

    def _modules(self, script: Path) -> Sequence[str]:
        if script in self._told:
            return self._told[script]
        copied = self._copied.get(_checksum(script))
        if copied is not None:
            return self._told[copied]
        mapped = script.with_name(f"{script.name}.map")
        if not mapped.exists():
            return ()
        sources: list[str] = json.loads(mapped.read_text())["sources"]
        return [os.path.normpath(script.parent / source) for source in sources]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
