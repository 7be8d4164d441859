"""Archives of Yarn's cache; tests/integration/test_plugnplay.py has Yarn's own."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.scanner.errors import TooLargeError
from services.scanner.layers import unpack
from tests.unit.images import artifact, deb
from vexstream import plugnplay
from vexstream.own import distributed_files
from vexstream.ownership import assign
from vexstream.plugnplay import with_archives
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
CACHE = "srv/.yarn/cache"


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"node_modules/{name}/package.json", "{}")
        archive.writestr("LICENSE", "x" * 300, zipfile.ZIP_STORED)
    return content.getvalue()


def scanned(
    folder: Path, archive: str, content: bytes, name: str = "ms", *more: Artifact
) -> Package:
    layer = folder / "layer"
    home = f"usr/local/lib/node_modules/{name}"
    with tarfile.open(layer, "w") as tar:
        for path, text in ((archive, content), (f"{home}/package.json", b"{}")):
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    image = unpack([layer], PLENTY).image()
    found = [artifact("npm", name, at=(f"/{home}/package.json",)), *more]
    mapped = assign(found, image)
    return with_archives(mapped, image, distributed_files(found, mapped, image))[0]


@pytest.mark.parametrize(
    ("archive", "name", "holds"),
    [
        ("ms-npm-1-81ff3cfac1-d924b57e73.zip", "ms", True),
        ("ms-npm-1-81ff3cfac1.zip", "ms", True),
        ("ms-npm-2.1.3-81ff3cfac1-d924b57e73.zip", "ms", False),
        ("ms-patch-81ff3cfac1-d924b57e73.zip", "ms", True),
        ("@babel-core-npm-1-81ff3cfac1-10.zip", "@babel/core", True),
        ("@babel-core-npm-7.0.1-81ff3cfac1-10.zip", "@babel/core", False),
        ("app.dat", "ms", True),
    ],
)
def test_an_archive_is_a_file_of_the_package_that_it_holds(
    tmp_path: Path, archive: str, name: str, holds: bool
) -> None:
    path = f"{CACHE}/{archive}"
    found = scanned(tmp_path, path, zipped(name), name)
    assert (f"/{path}".encode() in found.files) is holds


def test_of_what_is_bundled_in_it_the_version_is_not_known(tmp_path: Path) -> None:
    path = f"{CACHE}/npm-npm-10.0.0-81ff3cfac1-10.zip"
    found = scanned(tmp_path, path, zipped("npm", "npm/node_modules/ms"))
    assert f"/{path}".encode() in found.files
    assert scanned(tmp_path, path, zipped("npm", "npm/node_modules/ms2")).files == (
        b"/usr/local/lib/node_modules/ms/package.json",
    )


def test_an_archive_of_another_package_counts_not(tmp_path: Path) -> None:
    found = scanned(tmp_path, "opt/x.zip", zipped("ms"), "ms", deb("x", "/opt/x.zip"))
    assert b"/opt/x.zip" not in found.files


def test_modules_of_python_in_it_are_no_python_archive(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("node_modules/node-gyp/gyp/gyp_main.py", "x" * 300)
    with tarfile.open(layer, "w") as tar:
        info = tarfile.TarInfo("node-gyp.zip")
        info.size = len(content.getvalue())
        tar.addfile(info, io.BytesIO(content.getvalue()))
    assert unpack([layer], PLENTY).holders == {}


def test_archives_of_too_many_packages_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugnplay, "MAX_NAMES", 2)
    content = zipped("a", "b", "c")
    with pytest.raises(TooLargeError):
        scanned(tmp_path, f"{CACHE}/all.zip", content)


def test_packages_that_too_many_archives_may_hold_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugnplay, "MAX_PAIRS", 0)
    found = scanned(tmp_path, f"{CACHE}/ms-npm-1-81ff3cfac1-10.zip", zipped("ms"))
    assert found.unobservable is not None
