"""Bundles that lie elsewhere than their packages, made by esbuild, webpack and Rollup."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

OWN = b"/build/node_modules/nanoid/index.js"
BUNDLE = "srv/dist/shop.mjs"
SCRIPT = "import { nanoid } from '../node_modules/nanoid/index.js'; console.log(nanoid());\n"


def _bundled(root: Path, *tool: str) -> None:
    home = ecosystems.npm(root, "build", {"nanoid": "5.0.4", "ms": "2.1.3"})
    ecosystems.write(home, {"src/shop.js": SCRIPT})
    (root / "srv/dist").mkdir(parents=True)
    ecosystems.run(["npm", "exec", "--yes", *tool], home)


def esbuild(root: Path) -> None:
    _bundled(root, "esbuild@0.25.12", "--", "src/shop.js", "--bundle", "--platform=node",
             "--format=esm", f"--outfile=../{BUNDLE}", "--log-level=error")  # fmt: skip


def minified(root: Path) -> None:
    _bundled(root, "esbuild@0.25.12", "--", "src/shop.js", "--bundle", "--platform=node",
             "--format=esm", "--minify", f"--outfile=../{BUNDLE}",
             "--log-level=error")  # fmt: skip


def rollup(root: Path) -> None:
    _bundled(root, "rollup@4.9.1", "--", "src/shop.js", "--format", "es", "--silent",
             "--external", "crypto", "--file", f"../{BUNDLE}")  # fmt: skip


@pytest.mark.parametrize("make", [esbuild, rollup, minified])
def test_a_bundle_is_known_wherever_it_lies(
    make: Callable[[Path], None], syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    node = ecosystems.need("node", "apt-get install nodejs")
    make(root)
    used = mapped.opened(root, work, [node, str(root / BUNDLE)])
    assert f"/{BUNDLE}".encode() in used
    assert OWN not in used
    packages = {package.name: package for package in mapped.packages(root, work, syft)}
    found, other = packages["nanoid"], packages["ms"]
    assert f"/{BUNDLE}".encode() not in other.files
    assert other.perhaps_in == ()
    if make is minified:  # nanoid has no strings by which it could be told
        assert found.perhaps_in == (f"/{BUNDLE}".encode(),)
    else:
        assert f"/{BUNDLE}".encode() in found.files
        assert found.perhaps_in == ()


def test_a_minified_bundle_beside_other_packages_is_known_by_its_strings(
    syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    home = ecosystems.npm(root, "build", {"semver": "7.6.2", "debug": "4.3.4"})
    ecosystems.npm(root, "srv", {"ms": "2.1.3"})
    script = "console.log(require('semver').satisfies('1.2.3', '^1'))"
    ecosystems.write(home, {"src/shop.js": script})
    ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/shop.js", "--bundle",
                    "--platform=node", "--minify", "--outfile=../srv/dist/shop.js",
                    "--log-level=error"], home)  # fmt: skip
    packages = {one.purl: one for one in mapped.packages(root, work, syft)}
    semver, debug = packages["pkg:npm/semver@7.6.2"], packages["pkg:npm/debug@4.3.4"]
    assert b"/srv/dist/shop.js" in semver.files
    assert b"/srv/dist/shop.js" not in debug.files


@pytest.mark.parametrize("place", ["installed", "sources", "setup.py"])
def test_a_bundle_in_ones_own_python_package_is_ones_own(
    syft: Path, tmp_path: Path, place: str
) -> None:
    """pip has setuptools leave ``.egg-info`` in the sources; ``setup.py install`` lets it do the
    rest."""
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    home = ecosystems.npm(root, "build", {"nanoid": "5.0.4"})
    folder, files = home / "wheel", {"src/shop.js": SCRIPT}
    if place == "installed":
        ecosystems.project(folder, "stand", "stand", backend="hatchling")
    else:
        ecosystems.old_project(folder, "stand", "stand")
        files["wheel/MANIFEST.in"] = "recursive-include stand *"
        files["wheel/setup.cfg"] = "[options]\ninclude_package_data = True\n"
    ecosystems.write(home, files)
    ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/shop.js", "--bundle",
                    "--platform=node", "--minify", "--outfile=wheel/stand/static/shop.js",
                    "--log-level=error"], home)  # fmt: skip
    if place == "setup.py":
        site = ecosystems.venv(root, "venv", "setuptools==59.8.0")
        ecosystems.run([root / "venv/bin/python", "setup.py", "install", "--root=/", "--record",
                        work / "record"], folder)  # fmt: skip
    else:
        site = ecosystems.venv(root, "venv", str(folder))
    if place == "sources":
        site = folder
    else:
        shutil.rmtree(folder)
    bundle = f"/{(site / 'stand/static/shop.js').relative_to(root)}".encode()
    packages = mapped.packages(root, work, syft)
    assert any(bundle in one.files for one in packages if one.name == "stand")
    [nanoid] = (one for one in packages if one.name == "nanoid")
    assert bundle in nanoid.perhaps_in


@pytest.mark.parametrize("how", ["archive", "folder", "private"])
def test_a_bundle_in_ones_own_npm_package_is_ones_own(syft: Path, tmp_path: Path, how: str) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    home = ecosystems.npm(root, "build", {"nanoid": "5.0.4"})
    manifest = {"name": "stand", "version": "1.0.0", "private": how == "private"}
    ecosystems.write(home, {"src/shop.js": SCRIPT, "stand/package.json": json.dumps(manifest)})
    ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/shop.js", "--bundle",
                    "--platform=node", "--minify", "--outfile=stand/shop.js",
                    "--log-level=error"], home)  # fmt: skip
    ecosystems.run(["npm", "pack", "./stand", "--ignore-scripts"], home)
    archive = str(home / "stand-1.0.0.tgz")
    commands = {
        "archive": [archive],
        "folder": ["--install-links", "./stand"],
        "private": ["--global", "--prefix", str(root / "usr/local"), archive],
    }
    ecosystems.run(["npm", "install", "--no-audit", "--no-fund", *commands[how]], home)
    shutil.rmtree(home / "stand")
    place = "usr/local/lib" if how == "private" else "build"
    bundle = f"/{place}/node_modules/stand/shop.js".encode()
    packages = {package.name: package for package in mapped.packages(root, work, syft)}
    assert bundle in packages["stand"].files
    assert bundle in packages["nanoid"].perhaps_in


@pytest.mark.parametrize("host", ["https://gems.stand.example", "https://rubygems.org"])
def test_a_bundle_in_a_gem_for_another_host_is_ones_own(
    syft: Path, tmp_path: Path, host: str
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    home = ecosystems.npm(root, "build", {"nanoid": "5.0.4"})
    ecosystems.write(home, {"src/shop.js": SCRIPT})
    ecosystems.write(work, {
        "lib/stand.rb": "module Stand; end\n",
        "stand.gemspec": "Gem::Specification.new do |s| s.name='stand'; s.version='1.0'; "
                         "s.summary='x'; s.authors=['x']; s.files=['lib/stand.rb', 'shop.js']; "
                         f"s.metadata['allowed_push_host']='{host}' end\n",
    })  # fmt: skip
    ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/shop.js", "--bundle",
                    "--platform=node", "--minify", f"--outfile={work}/shop.js",
                    "--log-level=error"], home)  # fmt: skip
    gem, gems = ecosystems.need("gem", "apt-get install ruby"), root / "var/lib/gems/3.1.0"
    ecosystems.run([gem, "build", "stand.gemspec"], work)
    ecosystems.run([gem, "install", "--local", "--no-document", "--install-dir", gems,
                    "stand-1.0.gem"], work)  # fmt: skip
    packages = {package.name: package for package in mapped.packages(root, work, syft)}
    bundle = b"/var/lib/gems/3.1.0/gems/stand-1.0/shop.js"
    assert bundle in packages["stand"].files
    assert (bundle in packages["nanoid"].perhaps_in) is (host != "https://rubygems.org")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which its files are had."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


INSTALLERS = {
    "npm": ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"),
    "yarn": ("npm", "exec", "--yes", "yarn@1.22.22", "--", "install", "--ignore-scripts"),
    "pnpm": ("npm", "exec", "--yes", "pnpm@9.15.9", "--", "install", "--ignore-scripts",
             "--config.node-linker=hoisted"),
    "bun": ("npm", "exec", "--yes", "bun@1.4.5", "--", "install", "--ignore-scripts"),
    "folder": ("npm", "exec", "--yes", "bun@1.4.5", "--", "install", "--ignore-scripts"),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(INSTALLERS))
def test_a_bundle_in_an_archive_from_the_web_or_in_a_folder_is_ones_own(
    syft: Path, tmp_path: Path, web: tuple[Path, str], how: str
) -> None:
    """What the web has lies below another package; the application's manifest tells of a folder
    alone, which Bun copies."""
    root, work, (served, address) = tmp_path / "root", tmp_path / "work", web
    root.mkdir()
    work.mkdir()
    build = ecosystems.npm(root, "build", {"nanoid": "5.0.4"})
    stand = {"name": "stand", "version": "1.0.0", "dependencies": {"ms": "2.0.0"}}
    archive = f"{address}/stand-1.0.0.tgz"
    market = {"name": "market", "version": "1.0.0", "dependencies": {"stand": archive}}
    ecosystems.write(build, {"src/shop.js": SCRIPT, "stand/package.json": json.dumps(stand),
                             "market/package.json": json.dumps(market)})  # fmt: skip
    ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", "src/shop.js", "--bundle",
                    "--platform=node", "--minify", "--outfile=stand/shop.js",
                    "--log-level=error"], build)  # fmt: skip
    ecosystems.run(["npm", "pack", "./stand", "./market", "--ignore-scripts",
                    "--pack-destination", served], build)  # fmt: skip
    place = "file:../build/stand" if how == "folder" else f"{address}/market-1.0.0.tgz"
    other = {"stand": "npm:is-number@7.0.0"} if how == "yarn" else {}
    needed = {"stand" if how == "folder" else "market": place, "ms": "2.1.3", **other}
    ecosystems.write(root, {"srv/package.json": json.dumps({"dependencies": needed})})
    ecosystems.run(INSTALLERS[how], root / "srv")
    shutil.rmtree(build / "stand")
    below = "market/node_modules/" if how == "yarn" else ""
    bundle = f"/srv/node_modules/{below}stand/shop.js".encode()
    packages = {package.name: package for package in mapped.packages(root, work, syft)}
    assert bundle in packages["stand"].files
    assert bundle in packages["nanoid"].perhaps_in


BROWSER = """import _ from 'underscore'; import typed from 'is-typedarray';
globalThis.kept = [_, typed];
"""


@pytest.mark.parametrize(
    ("tool", "mode"),
    [("esbuild", "production"), ("webpack", "production"), ("webpack", "development")],
)
def test_packages_of_debian_are_known_in_a_bundle_as_well(
    tool: str, mode: str, syft: Path, tmp_path: Path
) -> None:
    """The same scripts came from npm; of is-typedarray only lines tell."""
    root, work, home = tmp_path / "root", tmp_path / "work", tmp_path / "home"
    for folder in (root / "srv", work, home):
        folder.mkdir(parents=True)
    there = ("libjs-underscore", "libjs-is-typedarray")
    ecosystems.unpacked_debs(root, work, *there, "libjs-cropper")
    ecosystems.npm(home, "", {"underscore": "1.13.4", "is-typedarray": "1.0.0"})
    ecosystems.write(home, {"shop.js": BROWSER})
    minified = ["--minify"] if mode == "production" else []
    command = {
        "esbuild": ["esbuild@0.25.12", "--", "shop.js", "--bundle", "--log-level=error", *minified,
                    f"--outfile={root}/srv/shop.js"],
        "webpack": ["--package=webpack@5.97.1", "--package=webpack-cli@5.1.4", "--", "webpack",
                    "./shop.js", "--mode", mode, "--devtool=false", "-o", f"{root}/srv",
                    "--output-filename", "shop.js"],
    }[tool]  # fmt: skip
    ecosystems.run(["npm", "exec", "--yes", *command], home)
    packages = {package.name: package for package in mapped.packages(root, work, syft)}
    bundle = b"/srv/shop.js"
    for name in there:
        one = packages[name]
        assert one.unobservable is None
        assert bundle in one.files or one.perhaps_in == (bundle,)
        assert bundle in one.files or name == "libjs-is-typedarray"
    other = packages["libjs-cropper"]
    assert bundle not in other.files
    assert (other.perhaps_in == ()) is bool(minified)  # comments name npm packages alone
