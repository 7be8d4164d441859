"""Packages of the npm registry, and Debian's, in the layouts of npm, pnpm and Yarn."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.scanner.sweep.running import Case
from tests.support import ecosystems

PROBE = ("--no-warnings", "--experimental-loader", "/tmp/.sweep/hook.mjs", "/tmp/.sweep/node.cjs")  # noqa: S108
_PINS = Path(__file__).parent / "pins"
_DAY = "2026-11-27"
_QUIET = ("--no-audit", "--no-fund", "--ignore-scripts")
_YARN = "nodeLinker: node-modules\nenableScripts: false\n"
_SMALL = {
    "express": "4.18.2", "debug": "4.3.4", "chalk": "4.1.2", "axios": "1.6.0", "ws": "8.14.2",
    "@babel/code-frame": "7.22.13", "uuid": "9.0.1", "glob": "8.1.0", "yargs": "17.7.2",
    "winston": "3.11.0", "jsonwebtoken": "9.0.2", "commander": "11.1.0", "koa": "2.14.2",
    "alias": "npm:lodash@4.17.20", "esbuild": "0.19.5", "preact": "10.18.1", "rxjs": "7.8.1",
    "argon2": "0.40.3", "@grpc/grpc-js": "1.9.7", "ajv": "8.12.0",
}  # fmt: skip
LAYOUTS = ("srv/npm", "srv/pnpm", "srv/hoisted", "srv/yarn1", "srv/yarn4", "srv/work",
           "usr/local/lib")  # fmt: skip
_FILES = 6
"""Of each package, beside its main one."""
_SKIPPED = re.compile(
    r"/(?:tests?|__tests__|spec|examples?|bench(?:mark)?s?|docs?|scripts|node_modules|bin|cli|umd"
    r"|browser)/|\.(?:test|spec|min|umd)\.|/(?:gulpfile|gruntfile|karma|rollup|webpack|jest)[^/]*\Z",
    re.IGNORECASE,
)


def cases(root: Path, node: str, top: str, entry: str) -> Iterator[Case]:
    """One process for each package below a directory; ``entry`` is from where they are required."""
    for manifest in sorted(Path(f"{root}{top}").rglob("package.json")):
        home = manifest.parent
        if not re.search(r"/(?:node_modules|nodejs)/(?:@[^/]+/)?[^/]+\Z", str(home)):
            continue
        if home.is_symlink() or "/.bin/" in str(home):
            continue
        try:
            document = json.loads(manifest.read_bytes())
        except ValueError:
            continue
        if not document.get("version") or str(document.get("name")).startswith("@types/"):
            continue
        inside = str(home).removeprefix(str(root))
        files = [str(path).removeprefix(str(root)) for path in _files(home)]
        yield Case(inside.removeprefix(top), (node, *PROBE, "{out}", entry), (inside, *files))


def _files(home: Path) -> list[Path]:
    found = []
    for pattern in ("*.js", "*.cjs", "*.mjs", "*/*.js", "*/*/*.js", "*.node", "*/*/*.node"):
        for path in sorted(home.glob(pattern)):
            if not _SKIPPED.search(f"/{path.relative_to(home)}") and path.is_file():
                found.append(path)
        if len(found) > 200:
            break
    return found[:: max(len(found) // _FILES, 1)][:_FILES]


def application(root: Path, work: Path) -> None:
    """All of them in one flat application, as npm of a fixed day resolves them."""
    del work
    wanted = json.loads((_PINS / "npm.json").read_bytes())
    home = root / "srv/app"
    ecosystems.write(home, {"package.json": _manifest("shop", dependencies=wanted), "index.js": ""})
    ecosystems.run(
        ["npm", "install", *_QUIET, "--legacy-peer-deps", "--omit=dev", f"--before={_DAY}"], home,
        seconds=900,
    )  # fmt: skip


def layouts(root: Path, work: Path) -> None:
    """The same packages by each installer."""
    ecosystems.npm(root, "srv/npm", _SMALL)
    ecosystems.npm(root, "srv/pnpm", _SMALL, pnpm=True)
    ecosystems.write(root / "srv/hoisted", {".npmrc": "node-linker=hoisted\n"})
    ecosystems.npm(root, "srv/hoisted", _SMALL, pnpm=True)
    manifest = _manifest("shop", dependencies=_SMALL)
    for place, version in (("srv/yarn1", "yarn@1.22.22"), ("srv/yarn4", "@yarnpkg/cli-dist@4.5.0")):
        ecosystems.write(root / place, {"package.json": manifest, "index.js": "", "yarn.lock": "",
                                        ".yarnrc.yml": _YARN})  # fmt: skip
        scripts = ["--ignore-scripts"] if version.startswith("yarn@") else []
        ecosystems.run(["npm", "exec", "--yes", f"--package={version}", "--", "yarn", "install",
                        *scripts], root / place, {"CI": ""})  # fmt: skip
    _workspaces(root / "srv/work")
    ecosystems.run(["npm", "install", "--global", "--prefix", root / "usr/local", *_QUIET,
                    "typescript@5.2.2", "eslint@8.52.0", "npm@9.9.0"], work)  # fmt: skip


def _workspaces(home: Path) -> None:
    one = {
        "version": "1.0.0",
        "main": "lib/a.js",
        "dependencies": {"ms": "2.1.2", "debug": "2.6.9"},
    }
    two = {"version": "1.0.0", "dependencies": {"@acme/one": "1.0.0", "ms": "2.0.0"}}
    ecosystems.write(home, {
        "package.json": _manifest("work", private=True, workspaces=["packages/*"]),
        "index.js": "",
        "packages/one/package.json": _manifest("@acme/one", **one),
        "packages/one/lib/a.js": "require('debug'); require('ms')",
        "packages/two/package.json": _manifest("@acme/two", **two),
        "packages/two/index.js": "require('@acme/one'); require('ms')",
    })  # fmt: skip
    ecosystems.run(["npm", "install", *_QUIET], home)


def _manifest(name: str, **fields: Any) -> str:
    return json.dumps({"name": name, "version": "1.0.0", **fields})


def layout_cases(root: Path, node: str) -> Iterator[Case]:
    """One process for each package of each layout."""
    for place in LAYOUTS:
        yield from cases(root, node, f"/{place}", f"/{place}/index.js")
    yield Case("a workspace", (node, *PROBE, "{out}", "/srv/work/index.js"), ("@acme/two",))
