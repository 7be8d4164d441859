"""Layers on one another: our tree of files, against what the real containerd unpacks."""

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from services.local.containerd import Containerd, ContainerdError
from services.local.image_archive import ImageConfig, write_archive
from services.scanner.errors import SbomFailedError
from services.scanner.layers import unpack

pytestmark = pytest.mark.real

Member = tuple[str, bytes, str]
RANDOM_IMAGES = 40
_KINDS = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)


def file(name: str) -> Member:
    return (name, tarfile.REGTYPE, "")


def folder(name: str) -> Member:
    return (name, tarfile.DIRTYPE, "")


def link(name: str, target: str) -> Member:
    return (name, tarfile.SYMTYPE, target)


MERGED = [file("usr/lib/a"), file("usr/lib/c"), link("lib", "usr/lib")]
IMAGES: dict[str, list[list[Member]]] = {
    "no-entry": [MERGED, [file("lib/b")]],
    "entry": [MERGED, [folder("lib"), file("lib/b")]],
    "whiteout": [MERGED, [file("lib/.wh.a")]],
    "opaque": [MERGED, [file("lib/.wh..wh..opq"), file("lib/b")]],
    "below": [MERGED, [file("lib/n/b")]],
    "same-layer": [[*MERGED, file("lib/b")]],
    "absolute": [[file("usr/lib/a"), link("l", "/usr/lib")], [file("l/b")]],
    "file-to-folder": [[file("f"), file("g")], [file("f/x")]],
    "folder-to-link": [[file("d/a"), file("e/q")], [link("d", "e")], [file("d/b")]],
    "opaque-last": [[file("d/a"), file("d/s/o")], [file("d/s/new"), file("d/.wh..wh..opq")]],
    "dots": [[file("./a/b"), file("/abs"), file("x/../y")]],
}


def _random_image(source: random.Random) -> list[list[Member]]:
    def path() -> str:
        return "/".join(source.choice("abc") for _ in range(source.randint(1, 3)))

    def member() -> Member:
        name, kind = path(), source.choice(_KINDS)
        parent, _, last = name.rpartition("/")
        roll = source.random()
        if roll < 0.15:
            return file(f"{parent}/.wh.{last}".lstrip("/"))
        if roll < 0.25:
            return file(f"{name}/.wh..wh..opq")
        target = source.choice(["", "/", "../"]) + path() if kind == tarfile.SYMTYPE else ""
        return (name, kind, target)

    return [[member() for _ in range(source.randint(1, 5))] for _ in range(source.randint(2, 3))]


def _layer(path: Path, members: list[Member]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, target, 0o755
            archive.addfile(entry, io.BytesIO())
    return path


@pytest.fixture(scope="module")
def commands(containerd: Containerd) -> list[str]:
    """What precedes a command that is to see containerd's mounts."""
    config = str(containerd.state / "config.toml").encode()
    found = [
        entry.name
        for entry in Path("/proc").glob("[0-9]*")
        if (words := _command_line(entry))[0].endswith(b"containerd") and config in words
    ]
    assert len(found) == 1
    return ["nsenter", "--target", found[0], "--mount"]


def _command_line(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _unpacked_by_containerd(
    containerd: Containerd, commands: list[str], name: str, target: Path
) -> set[bytes]:
    ctr = [*commands, "ctr", "--address", containerd.endpoint.removeprefix("unix://"),
           "--namespace", "k8s.io", "images"]  # fmt: skip
    target.mkdir(exist_ok=True)
    subprocess.run([*ctr, "mount", name, str(target)], check=True, capture_output=True)
    try:
        listed = subprocess.run(
            [*commands, "find", str(target), "-type", "f", "-print0"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
    finally:
        subprocess.run([*ctr, "unmount", "--rm", str(target)], check=True, capture_output=True)
    return {path[len(bytes(target)) :] for path in listed.split(b"\0") if path}


def test_the_merged_tree_is_the_one_that_containerd_makes(
    containerd: Containerd, commands: list[str], tmp_path: Path
) -> None:
    source = random.Random(4)
    images = IMAGES | {f"random-{n}": _random_image(source) for n in range(RANDOM_IMAGES)}
    compared = 0
    for name, members in images.items():
        layers = [_layer(tmp_path / f"{name}-{n}", layer) for n, layer in enumerate(members)]
        tag = f"localhost/overlay/{name}:1"
        archive = write_archive(tmp_path / name, tag, layers, ImageConfig(command=("x",)))
        try:
            containerd.import_image(archive.path, tag)
        except ContainerdError:
            assert name not in IMAGES  # random layers may hold what nobody can unpack
            continue
        theirs = _unpacked_by_containerd(containerd, commands, tag, tmp_path / "mount")
        try:
            ours = set(unpack(layers, 1 << 30).root.files_under(b"/"))
        except SbomFailedError as error:
            pytest.fail(f"{members} cannot be read by us: {error}")
        assert ours == theirs, members
        compared += 1
    assert compared > len(IMAGES) + RANDOM_IMAGES // 4
