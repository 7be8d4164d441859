"""Scripts that hold lines of packages: tests/integration/test_bundles.py has real bundlers."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.scanner import scripts
from services.scanner.layers import unpack
from tests.unit.images import artifact, deb
from vexstream import own
from vexstream.ownership import assign
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
MS = "/build/node_modules/ms"
LINES = [f"  if (value === {n}) return 'as many as {n} of them';\n" for n in range(8)]


def scanned(
    folder: Path, files: Mapping[str, str], artifacts: Iterable[Artifact]
) -> tuple[Package, ...]:
    layer = folder / "layer"
    with tarfile.open(layer, "w") as tar:
        for name, text in files.items():
            content = text.encode() + b"\n" * 300 + name.encode()  # no two are alike
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    image, found = unpack([layer], PLENTY).image(), list(artifacts)
    packages = assign(found, image)
    distributed = own.distributed_files(found, packages, image)
    return scripts.with_bundles(packages, image, distributed, [layer], PLENTY)


def ms(home: str = MS, name: str = "ms") -> Artifact:
    return artifact("npm", name, at=(f"{home}/package.json",))


def holds(folder: Path, script: str, source: str, name: str = "app/dist/shop.mjs") -> bool:
    files = {f"{MS[1:]}/package.json": "{}", f"{MS[1:]}/index.js": source, name: script}
    [found] = scanned(folder, files, [ms()])
    assert found.unobservable is None
    return f"/{name}".encode() in found.files


def test_a_few_lines_of_a_package_are_a_copy_of_it(tmp_path: Path) -> None:
    source = "".join(LINES)
    assert holds(tmp_path, "let own;\n" + "".join(LINES[:3]), source)
    assert not holds(tmp_path, "".join(LINES[:2]), source)
    assert not holds(tmp_path, LINES[0] * 9, source)


@pytest.mark.parametrize(
    ("line", "yes"),
    [
        ("// ../build/node_modules/ms/index.js", True),
        ("// node_modules/.pnpm/ms@2.1.3/node_modules/ms/index.js", True),
        ("  !*** ./node_modules/ms/index.js ***!", True),
        ("// node_modules/ms2/index.js", False),
        ("// node_modules/x/ms/index.js", False),
        ("load('/build/node_modules/ms/index.js')", False),
    ],
)
def test_a_comment_with_the_path_of_a_module_is_proof(tmp_path: Path, line: str, yes: bool) -> None:
    assert holds(tmp_path, f"let a;\n{line}\nlet b;\n", "".join(LINES)) is yes


def test_a_package_is_named_by_the_directory_in_which_it_is(tmp_path: Path) -> None:
    """As string-width-cjs, by ``npm:string-width`` in dependencies."""
    home = "/build/node_modules/ms-cjs"
    files = {f"{home[1:]}/package.json": "{}", f"{home[1:]}/index.js": "".join(LINES)}
    for name, yes in (("ms-cjs", True), ("cjs", False)):
        files["app/shop.js"] = f"let a;\n// node_modules/{name}/index.js\n"
        [found] = scanned(tmp_path, files, [ms(home)])
        assert (b"/app/shop.js" in found.files) is yes


def test_a_script_without_suffix_is_compared_as_well(tmp_path: Path) -> None:
    script = "#!/usr/bin/env node\n" + "".join(LINES)
    assert holds(tmp_path, script, "".join(LINES), "usr/local/bin/shop")
    assert not holds(tmp_path, script.replace("node", "bash"), "".join(LINES), "usr/local/bin/shop")


def test_spaces_and_quotes_do_not_matter(tmp_path: Path) -> None:
    other = [line.strip().replace("'", '"').replace("(", "( ").rstrip(";\n") for line in LINES]
    assert holds(tmp_path, "\r\n".join(other), "".join(LINES))


@pytest.mark.parametrize(
    "line",
    [
        "var __importDefault = (this && this.__importDefault{}) || other;\n",
        "function fulfilled(value) {{ try {{ step(generator.next({})); }} }}\n",
        "for (var s, i = 1, n = arguments.length + {}; i < n; i++) {{\n",
        "return new (P || (P = Promise))(function (resolve{}, reject) {{\n",
        " * Permission is hereby granted, free of charge, to any person {}\n",
        "// Permission is hereby granted, free of charge, to any person {}\n",
        "import {{ something, another }} from 'some-module-or-other{}';\n",
        "x = {};\n",
    ],
)
def test_what_compilers_write_comments_and_short_lines_tell_nothing(
    tmp_path: Path, line: str
) -> None:
    text = "".join(line.format(n) for n in range(9))
    assert not holds(tmp_path, text, text)


def test_lines_of_many_packages_tell_nothing(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    for count in (3, 4):
        homes = {name: f"/build/node_modules/{name}" for name in names[:count]}
        files = {"app/shop.js": "".join(LINES)}
        for home in homes.values():
            files |= {f"{home[1:]}/package.json": "{}", f"{home[1:]}/i.js": "".join(LINES)}
        found = scanned(tmp_path, files, [ms(home, name) for name, home in homes.items()])
        assert {b"/app/shop.js" in package.files for package in found} == {count == 3}


def test_the_application_is_compared_and_other_packages_are_not(tmp_path: Path) -> None:
    text = "".join(LINES)
    files = {f"{MS[1:]}/package.json": "{}", f"{MS[1:]}/index.js": text,
             "srv/package.json": "{}", "srv/shop.js": text, "srv/node_modules/.lock.js": "x",
             "usr/share/nodejs/x.js": text}  # fmt: skip
    found, shop, other = scanned(
        tmp_path, files, [ms(), ms("/srv", "shop"), deb("node-x", "/usr/share/nodejs/x.js")]
    )
    assert b"/srv/shop.js" in found.files
    assert f"{MS}/index.js".encode() not in shop.files
    assert b"/srv/shop.js" in other.files  # the same lines came with Debian


def test_too_many_lines_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vexstream.bundled_lines.MAX_LINES", 2)
    files = {f"{MS[1:]}/package.json": "{}", f"{MS[1:]}/index.js": "", "a.js": "".join(LINES)}
    [found] = scanned(tmp_path, files, [ms()])
    assert found.unobservable is None, "no line of it is among them"
    files[f"{MS[1:]}/index.js"] = "".join(LINES)
    [found] = scanned(tmp_path, files, [ms()])
    assert found.unobservable is not None
    assert "too many lines" in found.unobservable


def test_too_many_that_share_lines_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexstream.bundled_lines.MAX_PAIRS", 3)
    text = "".join(LINES)
    homes = [f"/build/{n}/node_modules/ms" for n in range(2)]
    files = {f"{home[1:]}/{name}": text for home in homes for name in ("package.json", "i.js")}
    made = [replace(ms(home), id=home) for home in homes]
    found = scanned(tmp_path, {**files, "a.js": text, "b.js": text + "let b"}, made)
    assert all("too many lines" in str(package.unobservable) for package in found)


def test_a_bundle_in_a_package_that_was_made_at_home_is_ones_own(tmp_path: Path) -> None:
    text, listed = "".join(LINES), "/opt/shop/main.js\n/opt/shop/min.js\n"
    files = {f"{MS[1:]}/package.json": "{}", f"{MS[1:]}/index.js": text,
             "var/lib/dpkg/info/shop.list": listed, "opt/shop/main.js": text,
             "opt/shop/min.js": "x" * 2000}  # fmt: skip
    found, _ = scanned(tmp_path, files, [ms(), deb("shop", *listed.split())])
    assert b"/opt/shop/main.js" in found.files
    assert found.perhaps_in == (b"/opt/shop/min.js",)
