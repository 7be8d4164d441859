"""Compiled programs that say what a package says, by whatever name its modules go."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.scanner import modules
from services.scanner.layers import unpack
from tests.unit.images import SITE, artifact
from vexstream import python_modules
from vexstream.ownership import assign
from vexstream.python_phrases import Phrases
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
SAID = (
    "The given label is too long to be encoded here",
    "Each label of a domain must have at least one letter",
    "No joiner may stand there without a virama before it",
)
SOURCE = f"""# A comment that no compiler ever keeps in what it makes
def encode(s):
    '''{SAID[0]}'''
    raise ValueError("{SAID[1]}", "{SAID[2]}", "short")
"""
PROGRAM = "app/shop.so"
LENT = "lent/core.py"
HEAD = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0" + bytes(400) + b"__pyx_"


def compiled(*said: str, between: str = "\0") -> bytes:
    return HEAD + between.join(said).encode() + bytes(99)


def files_of(
    folder: Path, files: Mapping[str, bytes], others: tuple[Artifact, ...] = ()
) -> set[bytes]:
    layer = folder / "layer"
    with tarfile.open(layer, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    image = unpack([layer], PLENTY).image()
    packages = assign([artifact("python", "lent", files=(LENT,)), *others], image)
    programs = python_modules.wanted(image, set())
    found = modules.with_phrases(packages, image, programs, [layer], PLENTY, folder)
    return set(found[0].files) - set(packages[0].files)


@pytest.mark.parametrize(
    ("said", "between", "yes"),
    [(SAID, "\0", True), (SAID, "x", True), (SAID, "\n    ", True), (SAID[:2], "\0", False)],
)
def test_what_says_the_same_holds_the_package(
    tmp_path: Path, said: tuple[str, ...], between: str, yes: bool
) -> None:
    files = {f"{SITE}/{LENT}": SOURCE.encode(), PROGRAM: compiled(*said, between=between)}
    assert files_of(tmp_path, files) == ({b"/app/shop.so"} if yes else set())


def test_what_packages_of_many_names_say_tells_nothing(tmp_path: Path) -> None:
    files = {f"{SITE}/{LENT}": SOURCE.encode(), PROGRAM: compiled(*SAID)}
    others = []
    for n in range(3):
        files[f"{SITE}/other{n}.py"] = SOURCE.encode()
        others.append(artifact("python", f"other{n}", files=(f"other{n}.py",)))
    assert not files_of(tmp_path, files, tuple(others))


def test_a_program_of_a_package_is_its_own_matter(tmp_path: Path) -> None:
    files = {f"{SITE}/{LENT}": SOURCE.encode(), f"{SITE}/shop.so": compiled(*SAID)}
    shop = artifact("python", "shop", files=("shop.so",))
    assert not files_of(tmp_path, files, (shop,))


@pytest.mark.parametrize("most", [0, 180_000])
def test_what_too_many_say_is_not_compared_to_the_end(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Counted in programs and packages: a hundred of each that all say the same would be a million
    pairs for each phrase. Any of the programs may hold any of the packages then."""
    monkeypatch.setattr("vexstream.python_phrases.MAX_PAIRS", most)
    said, packages = Phrases(), [Package(str(n), "lent", "1", "python", "", ()) for n in range(100)]
    programs = [b"/app/%d.so" % n for n in range(100)]
    for program in programs:
        said.add(program, memoryview(compiled(*SAID)))
    for number in range(len(packages)):
        said.compare([number], SOURCE.encode())
    held = list(said.held(packages))
    assert set(said.unread) == set(programs)
    assert not held


def test_a_program_that_says_too_much_may_hold_every_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexstream.python_phrases.MAX_PHRASES", 3)
    files = {f"{SITE}/{LENT}": SOURCE.encode(), PROGRAM: compiled(*SAID[:1])}
    assert files_of(tmp_path, files) == {b"/app/shop.so"}
