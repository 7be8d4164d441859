"""Bundles that lie elsewhere than their packages, made by esbuild and Rollup, against strace."""

from collections.abc import Callable
from pathlib import Path

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
    if make is minified:
        assert found.unobservable == other.unobservable
        assert found.unobservable == f"the bundle /{BUNDLE} may hold a copy of it"
    else:
        assert f"/{BUNDLE}".encode() in found.files
        assert f"/{BUNDLE}".encode() not in other.files
        assert (found.unobservable, other.unobservable) == (None, None)
