"""Copies of PHP packages with another namespace; tests/integration/test_scoped_php.py has those
that a parser and printer of PHP makes."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.scanner.layers import unpack
from tests.unit.images import artifact
from vexstream import php_sources
from vexstream.ownership import assign
from vexstream.php_sources import Source, with_copies
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
HEAD = "<?php\nnamespace {0}Acme\\Zeta;\nuse {0}Acme\\Zeta\\Other\\Something\\Very\\Long;\n"
BODY = "".join(
    f"    /* a comment that is long enough to be told, number {n} */\n"
    f"    public function answerOfTheQuestion{n}(array $things, int $times)\n    {{\n"
    f"        return str_repeat('the answer to {n}', $times);\n    }}\n"
    for n in range(9)
)
ORIGINAL = HEAD.format("") + "class Answer {\n" + BODY + "}\n"
SCOPED = HEAD.format("Shop\\Vendor\\") + "class Answer {\n" + BODY + "}\n"
PRINTED = SCOPED.replace("str_repeat('", "\\str_repeat( '").replace("\n    {", " {")
SMALL = "<?php\nnamespace Acme;\ninterface Small {}\n" + "// padding\n" * 30
VENDOR = "srv/vendor/acme/zeta/src"
AT = "/srv/vendor/composer/installed.json"


def mapped(
    folder: Path, files: Mapping[str, str], *names: str, above: Mapping[str, str] | None = None
) -> dict[str, Package]:
    """``above`` is what a second layer has."""
    layers = []
    for number, content_of in enumerate(filter(None, (files, above))):
        layers.append(folder / f"layer{number}")
        with tarfile.open(layers[-1], "w") as tar:
            for name, content in content_of.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
    image = unpack(layers, PLENTY).image()
    found = [artifact("php-composer", name, at=(AT,)) for name in names or ("acme/zeta",)]
    return {package.name: package for package in with_copies(assign(found, image), image)}


@pytest.mark.parametrize("content", [SCOPED, PRINTED])
@pytest.mark.parametrize("path", ["srv/lib/Answer.php", "build/acme/zeta/src/Answer.php"])
def test_a_copy_in_another_namespace(tmp_path: Path, content: str, path: str) -> None:
    found = mapped(tmp_path, {f"{VENDOR}/Answer.php": ORIGINAL, path: content})["acme/zeta"]
    assert found.files == tuple(sorted([f"/{VENDOR}/Answer.php".encode(), f"/{path}".encode()]))
    assert found.unobservable is None


def test_what_says_little_is_told_by_its_place(tmp_path: Path) -> None:
    files = {f"{VENDOR}/Small.php": SMALL, "build/acme/zeta/src/Small.php": SMALL + "\n\n",
             "build/other/zeta/src/Small.php": SMALL + "\n"}  # fmt: skip
    found = mapped(tmp_path, files)["acme/zeta"].files
    assert found == (b"/build/acme/zeta/src/Small.php", f"/{VENDOR}/Small.php".encode())


@pytest.mark.parametrize(
    "content",
    [
        "<?php\n" + BODY.replace("Question", "Riddle").replace("answer to", "word of"),
        "<?php\n" + "\n".join(line for line in BODY.split("\n") if "comment" in line),
        "<?php\n" + "\n".join(BODY.split("\n")[:5]) + "\n" * 300,
    ],
)
def test_what_has_few_lines_of_it_is_no_copy(tmp_path: Path, content: str) -> None:
    files = {f"{VENDOR}/Answer.php": ORIGINAL, "srv/Answer.php": content}
    assert len(mapped(tmp_path, files)["acme/zeta"].files) == 1


def test_a_copy_keeps_its_name(tmp_path: Path) -> None:
    files = {f"{VENDOR}/Answer.php": ORIGINAL, "srv/Mine.php": SCOPED}
    assert len(mapped(tmp_path, files)["acme/zeta"].files) == 1


@pytest.mark.parametrize(("count", "told"), [(3, True), (4, False)])
def test_what_many_packages_have_tells_nothing(tmp_path: Path, count: int, told: bool) -> None:
    names = [f"acme/p{n}" for n in range(count)]
    files = {f"srv/vendor/{name}/Answer.php": ORIGINAL + "\n" * n for n, name in enumerate(names)}
    found = mapped(tmp_path, {**files, "srv/Answer.php": SCOPED}, *names)
    assert {b"/srv/Answer.php" in package.files for package in found.values()} == {told}


def test_another_packages_version_of_it_is_its_own_matter(tmp_path: Path) -> None:
    files = {f"{VENDOR}/Answer.php": ORIGINAL, "srv/vendor/acme/eta/src/Answer.php": SCOPED}
    found = mapped(tmp_path, files, "acme/zeta", "acme/eta")
    assert [len(package.files) for package in found.values()] == [1, 1]


TOO_MANY = "the image's sources of PHP are too many to be compared with its own"


@pytest.mark.parametrize(
    ("limit", "value", "copy"),
    [
        ("MAX_SOURCES", 1, "srv/Answer.php"),
        ("MAX_PAIRS", 2, "srv/Answer.php"),
        ("MAX_PAIRS", 0, "build/acme/zeta/src/Answer.php"),
    ],
)
def test_too_many_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, copy: str
) -> None:
    monkeypatch.setattr(php_sources, limit, value)
    found = mapped(tmp_path, {f"{VENDOR}/Answer.php": ORIGINAL, copy: SCOPED})["acme/zeta"]
    assert found.unobservable == TOO_MANY


def test_there_were_too_many_though_a_layer_has_removed_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came after them was not read, and may be a copy."""
    monkeypatch.setattr(php_sources, "MAX_SOURCES", 2)
    files = {f"{VENDOR}/Answer.php": ORIGINAL, "old/A.php": ORIGINAL, "srv/Answer.php": SCOPED}
    found = mapped(tmp_path, files, above={"old/.wh.A.php": ""})["acme/zeta"]
    assert found.unobservable == TOO_MANY


def test_a_package_of_which_no_source_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(php_sources, "MAX_SOURCES", 1)
    files = {"a/A.php": SCOPED, f"{VENDOR}/Answer.php": ORIGINAL}
    found = mapped(tmp_path, files, above={"a/.wh.A.php": ""})["acme/zeta"]
    assert found.unobservable == TOO_MANY


def test_long_lines_and_many_are_read_in_parts() -> None:
    many, whole = Source(), Source()
    content = ("x" * 9000 + "\n").encode() + PRINTED.encode() * 500 + bytes(range(33, 92)) * 9
    whole.feed(content)
    for at in range(0, len(content), 1000):
        many.feed(content[at : at + 1000])
    assert many.sketch() == whole.sketch()
    assert len(many.sketch()) == 4 * php_sources.KEPT
