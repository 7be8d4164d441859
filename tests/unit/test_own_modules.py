"""Bundles in packages that came from one's own sources: tests/integration/test_bundles.py has real
installers."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from services.scanner import layers
from services.scanner.errors import TooLargeError
from services.scanner.layers import MIN_ALIKE_BYTES, unpack
from tests.unit.bundles import BUNDLE, ERRORS, HOME, LONG, PLENTY, SOURCE, package, scanned
from tests.unit.images import SITE, artifact
from vexstream import npm_places


@pytest.mark.parametrize("from_index", [False, True])
def test_a_bundle_in_a_wheel_of_ones_own_counts(tmp_path: Path, *, from_index: bool) -> None:
    """As ``pip install .`` puts it beside the application's modules."""
    record = "RECORD" if from_index else "direct_url.json"
    names = ("shop/static/shop.js", f"shop-1.dist-info/{record}")
    files = {
        **package("f()"),
        f"{SITE[1:]}/{names[0]}": f"let {LONG}",
        f"{SITE[1:]}/{names[1]}": "",
    }
    found = scanned(tmp_path, files, ("ms",), artifact("python", "shop", files=names))
    bundle = f"{SITE}/{names[0]}".encode()
    assert found["ms"].perhaps_in == (() if from_index else (bundle,))
    assert found["shop"].perhaps_in == ()


NPM, YARN_1, YARN = ".package-lock.json", ".yarn-integrity", ".yarn-state.yml"
PNPM = ".modules.yaml"


def resolved(place: str) -> str:
    return json.dumps({"packages": {"node_modules/@a/shop": {"resolved": place}}})


def pattern(place: str) -> str:
    return json.dumps({"lockfileEntries": {f"@a/shop@{place}": ""}})


def locator(place: str) -> str:
    return f'"@a/shop@{place}":\n  locations:\n    - "node_modules/@a/shop"\n'


def hoisted(key: str) -> str:
    """As pnpm up to 9 writes it."""
    return f"""hoistPattern:
  - '*'
hoistedLocations:
  ms@2.0.0:
    - node_modules/ms
  {key}:
    - node_modules/@a/shop
included:
  dependencies: true
"""


@pytest.mark.parametrize(
    ("record", "text", "own"),
    [
        (NPM, resolved("file:../shop-1.0.0.tgz"), True),
        (NPM, resolved("git+ssh://git@example.org/shop.git#4dfe337"), True),
        (NPM, resolved("http://files.example.org/shop-1.tgz"), True),
        (NPM, resolved("https://codeload.github.com/a/shop/tar.gz/4dfe337"), True),
        (NPM, resolved("https://registry.npmjs.org/@a/shop/-/shop-1.tgz"), False),
        (NPM, resolved("https://npm.pkg.github.com/download/@a/shop/1.0.0/4dfe337"), False),
        (NPM, resolved("node_modules/.store/@a/shop@1.0.0-LNG/node_modules/@a/shop"), False),
        (NPM, '{"packages": {"node_modules/@a/shop": {"version": "1"}}}', False),
        (NPM, '{"packages": {"node_modules/@a/shop": [], "": {"resolved": {}}}}', False),
        (NPM, '[{"packages"', False),
        (YARN_1, pattern("file:../shop"), True),
        (YARN_1, pattern("a/shop"), True),
        (YARN_1, pattern("./shop.tgz"), True),
        (YARN_1, pattern("^1.0.0 || 2"), False),
        (YARN_1, pattern("npm:@b/shop@1"), False),
        (YARN, locator("file:../shop#../shop::hash=1&locator=use"), True),
        (YARN, locator("virtual:0a1b#file:../shop"), True),
        (YARN, locator("npm:1.0.0"), False),
        (YARN, locator("virtual:0a1b#npm:1.0.0"), False),
        (PNPM, hoisted("'@a/shop@https://example.org/shop-1.0.0.tgz'"), True),
        (PNPM, hoisted("file:packages/shop"), True),
        (PNPM, hoisted("? '@a/shop@file:../shop'\n  "), True),
        (PNPM, hoisted("github.com/a/shop/4dfe337"), True),
        (PNPM, hoisted("'@a/shop@1.0.0(qs@6.1.0)'"), False),
        (PNPM, hoisted("/@a/shop/1.0.0"), False),
        (PNPM, hoisted("/@a/shop@1.0.0").replace("hoistedL", "otherL"), False),
        (PNPM, '{"hoistedLocations": {"@a/shop@git+x": ["node_modules/@a/shop"]}}', True),
        (PNPM, '{"hoistedLocations": {"@a/shop@1.0.0": ["node_modules/@a/shop"]}}', False),
        (PNPM, '{"hoistedLocations": {"@a/shop@git+x": [1], "@a/b@git+x": 2}}', False),
    ],
)
def test_a_bundle_in_an_npm_package_from_sources_counts(
    tmp_path: Path, record: str, text: str, *, own: bool
) -> None:
    place = f"{HOME}/@a/shop"
    files = {
        **package("f()"),
        f"{place}/dist/shop.js": f"let {LONG};{ERRORS[3]}",
        f"{place}/package.json": "{}",
        f"{HOME}/{record}": text,
    }
    found = scanned(tmp_path, files, ("ms", "@a/shop"))
    assert found["ms"].perhaps_in == ((f"/{place}/dist/shop.js".encode(),) if own else ())


@pytest.mark.parametrize(
    ("place", "own"),
    [
        (f"{HOME}/.pnpm/shop@file+..+app/node_modules/shop", True),
        (f"{HOME}/.pnpm/@a+shop@https+++codeload.github.com+a+shop/node_modules/@a/shop", True),
        (f"{HOME}/.pnpm/github.com+a+shop@4dfe337/node_modules/shop", True),
        (f"{HOME}/.pnpm/shop@1.0.0_@a+b@2.0.0/node_modules/shop", False),
        (f"{HOME}/.pnpm/git-shop@1.0.0/node_modules/git-shop", False),
        (f"{HOME}/.bun/@a+shop@file+..+shop/node_modules/@a/shop", True),
        (f"{HOME}/.bun/shop@1.0.0+4dfe337/node_modules/shop", False),
        (f"{HOME}/.store/@a-shop-file-a55ebd93b2/package", True),
        (f"{HOME}/.store/git-shop-npm-1.0.0-a55ebd93b2/package", False),
    ],
)
def test_stores_have_directories_named_after_the_sources(
    tmp_path: Path, place: str, *, own: bool
) -> None:
    """pnpm's, Bun's and Yarn's."""
    files = {**package("f()"), f"{place}/shop.js": f"let {LONG}", f"{place}/package.json": "{}"}
    shop = artifact("npm", "shop", at=(f"/{place}/package.json",))
    found = scanned(tmp_path, files, ("ms",), shop)
    assert found["ms"].perhaps_in == ((f"/{place}/shop.js".encode(),) if own else ())


@pytest.mark.parametrize(
    ("place", "own"),
    [("shop", True), ("@a/shop", True), ("preact/hooks", False), ("ms/node_modules/shop", True)],
)
def test_what_no_client_publishes_is_ones_own(tmp_path: Path, place: str, *, own: bool) -> None:
    files = {
        **package("f()"),
        f"{HOME}/{place}/shop.js": f"let {LONG}",
        f"{HOME}/{place}/package.json": "{}",
        f"{HOME}/{place}/node_modules/other/other.js": f"let {LONG}",
    }
    shop = artifact("npm", "shop", at=(f"/{HOME}/{place}/package.json",))
    other = artifact("npm", "other", at=(f"/{HOME}/{place}/node_modules/other/package.json",))
    found = scanned(tmp_path, files, ("ms",), replace(shop, unpublished=True), other)
    assert found["ms"].perhaps_in == ((f"/{HOME}/{place}/shop.js".encode(),) if own else ())


@pytest.mark.parametrize(
    ("record", "own"), [(".bun-tag", True), (".bun-lock", False), ("lib/.bun-tag", False)]
)
def test_bun_marks_what_was_no_registrys(tmp_path: Path, record: str, *, own: bool) -> None:
    place = f"{HOME}/shop"
    files = {
        **package("f()"),
        f"{place}/shop.js": f"let {LONG}",
        f"{place}/package.json": "{}",
        f"{place}/{record}": "4dfe337",
    }
    found = scanned(tmp_path, files, ("ms", "shop"))
    assert found["ms"].perhaps_in == ((f"/{place}/shop.js".encode(),) if own else ())


def test_yarn_1_names_what_lies_below_the_top_as_well(tmp_path: Path) -> None:
    place = f"{HOME}/mid/node_modules/@a/shop"
    files = {
        **package("f()"),
        f"{place}/shop.js": f"let {LONG}",
        f"{place}/package.json": "{}",
        f"{HOME}/{YARN_1}": pattern("https://example.org/shop.tgz"),
    }
    shop = artifact("npm", "@a/shop", at=(f"/{place}/package.json",))
    found = scanned(tmp_path, files, ("ms",), shop)
    assert found["ms"].perhaps_in == (f"/{place}/shop.js".encode(),)


APPLICATION, BESIDE = "srv/package.json", f"{HOME}/mid/package.json"


def needs(place: str, section: str = "dependencies") -> str:
    return json.dumps({section: {"@a/shop": place}})


@pytest.mark.parametrize(
    ("manifest", "text", "own"),
    [
        (APPLICATION, needs("file:../shop"), True),
        (APPLICATION, needs("https://example.org/shop.tgz"), True),
        (APPLICATION, needs("a/shop#main"), True),
        (APPLICATION, needs("shop.tgz"), True),
        (APPLICATION, needs("workspace:*"), True),
        (APPLICATION, needs("^1.0.0 || >=2 <3"), False),
        (APPLICATION, needs("npm:@b/shop@1"), False),
        (APPLICATION, needs("../shop", "devDependencies"), True),
        (BESIDE, needs("../shop", "devDependencies"), False),
        (BESIDE, needs("../shop", "optionalDependencies"), True),
        (APPLICATION, '{"overrides": {"mid@1": {"@a/shop@^1": "file:../shop"}}}', True),
        (APPLICATION, '{"overrides": {"@a/shop": {".": "file:../shop", "b": "1"}}}', True),
        (APPLICATION, '{"overrides": {"@a/shop": "$mid"}}', False),
        (APPLICATION, '{"resolutions": {"mid/**/@a/shop": "file:../shop"}}', True),
        (APPLICATION, '{"pnpm": {"overrides": {"mid>@a/shop@>=1": "file:../shop"}}}', True),
        (APPLICATION, '{"pnpm": 1, "dependencies": {"@a/shop": 1}, "resolutions": []}', False),
        (APPLICATION, "[" * 100_000, False),
        (f"{HOME}/@a/shop/package.json", '{"_requested": {"type": "file"}}', True),
        (f"{HOME}/@a/shop/package.json", '{"_requested": {"type": "range"}}', False),
        (f"{HOME}/@a/shop/package.json", '{"_requested": {"type": ["file"]}}', False),
    ],
)
def test_who_needs_a_package_says_where_it_is_from(
    tmp_path: Path, manifest: str, text: str, *, own: bool
) -> None:
    place = f"{HOME}/.store/@a/shop@1/node_modules/@a/shop"
    if manifest.endswith("shop/package.json"):
        place = f"{HOME}/@a/shop"
    files = {
        **package("f()"),
        f"{place}/shop.js": f"let {LONG}",
        f"{place}/package.json": "{}",
        manifest: text,
    }
    shop = artifact("npm", "@a/shop", at=(f"/{place}/package.json",))
    found = scanned(tmp_path, files, ("ms",), shop)
    assert found["ms"].perhaps_in == ((f"/{place}/shop.js".encode(),) if own else ())


def test_a_package_without_a_version_is_told_by_its_name(tmp_path: Path) -> None:
    """Syft says nothing of it."""
    place = f"{HOME}/shop"
    files = {
        **package("f()"),
        f"{place}/shop.js": f"let {LONG}",
        f"{place}/package.json": "{}",
        APPLICATION: '{"dependencies": {"shop": "file:../shop"}}',
    }
    assert scanned(tmp_path, files)["ms"].perhaps_in == (f"/{place}/shop.js".encode(),)


def test_short_manifests_are_read_and_long_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = needs("file:../shop").encode()
    assert len(text) < MIN_ALIKE_BYTES
    layer = tmp_path / "layer"
    with tarfile.open(layer, "w") as tar:
        info = tarfile.TarInfo(APPLICATION)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    told = unpack([layer], PLENTY).image().npm_places
    assert {path: one.elsewhere for path, one in told.items()} == {
        f"/{APPLICATION}".encode(): {b"@a/shop"}
    }
    monkeypatch.setattr(npm_places, "MAX_BYTES", len(text) - 1)
    assert not unpack([layer], PLENTY).image().npm_places


def test_names_that_manifests_tell_take_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MAX_CONTENT_BYTES", 100)
    with pytest.raises(TooLargeError):
        scanned(tmp_path, {**package("f()"), APPLICATION: needs("file:../shop")})


@pytest.mark.parametrize("own", [False, True])
def test_a_bundle_in_a_composer_package_from_sources_counts(tmp_path: Path, *, own: bool) -> None:
    place = "srv/vendor/a/shop"
    files = {
        **package("f()"),
        f"{place}/composer.json": "{}",
        f"{place}/js/shop.js": f"let {LONG}",
    }
    shop = artifact("php-composer", "a/shop", at=("/srv/vendor/composer/installed.json",))
    found = scanned(tmp_path, files, ("ms",), replace(shop, unpublished=own))
    assert found["ms"].perhaps_in == ((f"/{place}/js/shop.js".encode(),) if own else ())


GEMSPEC = 's.metadata = {{ "homepage_uri" => "https://x.org", "allowed_push_host"{} => "{}"{} }}'


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (GEMSPEC.format("", "https://gems.shop.example", ""), True),
        (GEMSPEC.format(".freeze", "https://rubygems.org.shop.example", ".freeze"), True),
        (GEMSPEC.format(".freeze", "https://rubygems.org", ".freeze"), False),
        (GEMSPEC.format("", "https://rubygems.org/", ""), False),
        ("", False),
    ],
)
def test_a_bundle_in_a_gem_that_rubygems_cannot_have_counts(
    tmp_path: Path, text: str, *, own: bool
) -> None:
    place, record = "var/lib/gems/3.1.0/gems/shop-1", "var/lib/gems/3.1.0/specifications/shop-1"
    files = {
        **package("f()"),
        f"{place}/lib/shop.rb": "",
        f"{place}/app/shop.js": f"let {LONG}",
        f"{record}.gemspec": text,
    }
    shop = artifact("gem", "shop", at=(f"/{record}.gemspec",))
    found = scanned(tmp_path, files, ("ms",), shop)
    bundle = f"/{place}/app/shop.js".encode()
    assert bundle in found["shop"].files
    assert found["ms"].perhaps_in == ((bundle,) if own else ())


@pytest.mark.parametrize("own", [False, True])
def test_a_bundle_in_a_package_of_r_from_sources_counts(tmp_path: Path, *, own: bool) -> None:
    place = "usr/local/lib/R/site-library/shop"
    files = {
        **package("f()"),
        f"{place}/DESCRIPTION": "",
        f"{place}/htmlwidgets/shop.js": f"let {LONG}",
    }
    shop = artifact("R-package", "shop", at=(f"/{place}/DESCRIPTION",), metadata="r-description")
    found = scanned(tmp_path, files, ("ms",), replace(shop, unpublished=own))
    bundle = f"/{place}/htmlwidgets/shop.js".encode()
    assert bundle in found["shop"].files
    assert found["ms"].perhaps_in == ((bundle,) if own else ())


def test_a_package_from_a_repository_is_still_looked_for_in_bundles(tmp_path: Path) -> None:
    files = {**package(SOURCE), "srv/shop.js": f"let {LONG};{SOURCE}"}
    files[f"{HOME}/{NPM}"] = resolved("git+https://example.org/ms.git#1").replace("@a/shop", "ms")
    assert BUNDLE in scanned(tmp_path, files)["ms"].files


def test_a_bundle_in_an_egg_counts(tmp_path: Path) -> None:
    """No index has had eggs for years: ``setup.py install`` makes them."""
    egg = f"{SITE}/shop-1-py3.11.egg"
    names = ("shop/static/shop.js", "EGG-INFO/PKG-INFO", "EGG-INFO/top_level.txt")
    files = {**package("f()"), **{f"{egg[1:]}/{name}": f"let {LONG}" for name in names}}
    at = (f"{egg}/EGG-INFO/PKG-INFO", f"{egg}/EGG-INFO/top_level.txt")
    shop = replace(artifact("python", "shop", at=at, top=("shop",)), site_packages=egg)
    bundle = f"{egg}/shop/static/shop.js".encode()
    found = scanned(tmp_path, files, ("ms",), shop)
    assert bundle in found["shop"].files
    assert found["ms"].perhaps_in == (bundle,)


@pytest.mark.parametrize(("home", "own"), [("shop.egg-info", True), ("shop-1.dist-info", False)])
def test_a_bundle_in_a_package_of_setuptools_counts(
    tmp_path: Path, home: str, *, own: bool
) -> None:
    """``pip install .`` leaves ``.egg-info`` in the sources, too."""
    files = {
        **package("f()"),
        "app/shop/shop.js": f"let {LONG}",
        **{f"app/{home}/{name}": "" for name in ("PKG-INFO", "top_level.txt")},
    }
    at = (f"/app/{home}/PKG-INFO", f"/app/{home}/top_level.txt")
    shop = replace(artifact("python", "shop", at=at, top=("shop",)), site_packages="/app")
    found = scanned(tmp_path, files, ("ms",), shop)
    assert b"/app/shop/shop.js" in found["shop"].files
    assert found["ms"].perhaps_in == ((b"/app/shop/shop.js",) if own else ())


def test_a_wheel_from_a_file_is_still_looked_for_in_bundles(tmp_path: Path) -> None:
    """As ``pip install wheels/*.whl`` installs what others made. It is in its own script."""
    names = ("ms/static/ms.js", "ms-1.dist-info/direct_url.json")
    files = {f"{SITE[1:]}/{name}": SOURCE for name in names}
    wheel = artifact("python", "ms", files=names)
    alone = scanned(tmp_path, files, (), wheel)["ms"]
    assert (len(alone.files), alone.perhaps_in) == (2, ())
    files["srv/shop.js"] = f"let {LONG};{SOURCE}"
    assert BUNDLE in scanned(tmp_path, files, (), wheel)["ms"].files
