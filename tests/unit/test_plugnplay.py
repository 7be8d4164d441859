"""Archives of Yarn's cache; tests/integration/test_plugnplay.py has Yarn's own."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.scanner.layers import unpack
from tests.unit.images import artifact, deb
from vexstream import plugnplay
from vexstream.own import distributed_files
from vexstream.ownership import assign
from vexstream.plugnplay import MAGIC, NodeArchive, with_archives
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


def test_more_names_than_there_is_room_for_may_be_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugnplay, "MAX_NAMES", 9)
    for count in (9, 10):
        content = zipped(*(f"p{n}" for n in range(count)))
        found = scanned(tmp_path, "opt/x.zip", content)
        reason = (
            "the archive /opt/x.zip names too many npm packages to tell of which it holds a copy"
        )
        assert found.unobservable == (reason if count == 10 else None)
        brought = scanned(tmp_path, "opt/x.zip", content, "ms", deb("x", "/opt/x.zip"))
        assert brought.unobservable is None


def test_names_of_all_archives_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugnplay, "MAX_NAMES", 9)
    layers = []
    for number in range(3):
        layers.append(tmp_path / str(number))
        with tarfile.open(layers[-1], "w") as tar:
            content = zipped(*(f"p{number}-{n}" for n in range(4)))
            info = tarfile.TarInfo(f"{number}.zip")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found = unpack(layers, PLENTY).node_archives
    assert {path: names and len(names) for path, names in found.items()} == {
        b"/0.zip": 4, b"/1.zip": 4, b"/2.zip": None}  # fmt: skip


def test_an_archive_of_a_million_names_is_given_up_early() -> None:
    archive, most = NodeArchive(), 0
    for start in range(0, 1_000_000, 10_000):
        names = (b"node_modules/p%d/package.json" % n for n in range(start, start + 10_000))
        archive.feed((MAGIC if start == 0 else b"") + b"\0".join(names) + b"\0")
        most = max(most, len(archive.names or ()))
    assert archive.names is None
    assert most <= plugnplay.MAX_NAMES


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


def test_packages_that_too_many_archives_may_hold_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugnplay, "MAX_PAIRS", 0)
    found = scanned(tmp_path, f"{CACHE}/ms-npm-1-81ff3cfac1-10.zip", zipped("ms"))
    assert found.unobservable is not None
