"""Bundles that hold strings of packages: tests/integration/test_bundles.py has real bundlers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.scanner import scripts
from tests.unit.bundles import BUNDLE, ERRORS, HOME, LONG, NUMBERS, SOURCE, package, scanned
from tests.unit.images import SITE, artifact, deb
from vexstream.sbom import Artifact


def verdict(folder: Path, source: str, bundle: str) -> str:
    found = scanned(folder, {**package(source), "srv/shop.js": bundle})["ms"]
    if BUNDLE in found.files:
        return "held"
    return "open" if found.perhaps_in == (BUNDLE,) else "not in it"


@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        (f"let {LONG};" + ";".join(ERRORS[3:6]).replace("'", '"'), "held"),
        (f"let {LONG};" + ERRORS[3], "open"),
        (f"let {LONG};throw Error('there are other customers')", "not in it"),
        (f"let {LONG};" + ";".join(ERRORS) + ";require('ms')", "open"),
        (f"let {LONG};" + ";".join(ERRORS) + ";require('ms2')", "held"),
    ],
)  # fmt: skip
def test_a_minified_bundle_holds_what_it_has_strings_of(
    tmp_path: Path, bundle: str, said: str
) -> None:
    assert verdict(tmp_path, SOURCE, bundle) == said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("function f(a, b) { return a * b + a }\n" * 9, "open"),
        ("// nothing but words\n", "open"),
        (SOURCE + ";\nfunction f(a, b) { return a * b + a }\n" * 999, "open"),
        ("/* " + SOURCE + " */" + "f(a * b);\n" * 30, "open"),
        (SOURCE, "not in it"),
        (SOURCE + ";\n/* " + "a comment\n" * 999 + "*/", "not in it"),
    ],
)
def test_of_a_package_with_few_strings_it_cannot_be_told(
    tmp_path: Path, source: str, said: str
) -> None:
    assert verdict(tmp_path, source, f"let {LONG}") == said


def test_names_of_properties_tell_in_a_minified_bundle_alone(tmp_path: Path) -> None:
    source = "".join(f"a.{n}Customers.serve();\n" for n in NUMBERS)
    short = "".join(f"b.{n}Customers;" for n in NUMBERS[:6])
    assert verdict(tmp_path, source, f"let {LONG};{short}") == "held"
    assert verdict(tmp_path, source, short) == "not in it"
    names = "".join(f"exports.{n}Customers = f;\n" for n in NUMBERS)
    assert verdict(tmp_path, names + source, f"let {LONG};{short}") == "open"


def test_a_script_that_was_written_anew_is_told_by_strings(tmp_path: Path) -> None:
    anew = "let a;\n" + "\n".join(ERRORS[:4]).replace("Error(", "Error(\n  ").replace("'", '"')
    assert verdict(tmp_path, SOURCE, anew) == "held"
    assert verdict(tmp_path, SOURCE, anew + "\nrequire('ms')") == "not in it"


def test_strings_that_lie_far_from_one_another_are_none(tmp_path: Path) -> None:
    source = ";\n".join(f"f('{n}customers{m}')" for m in range(9) for n in NUMBERS)
    far = ";".join(f"f('noughtcustomers{m}')" for m in range(9))
    assert verdict(tmp_path, source, f"let {LONG};{far}") == "not in it"


def test_strings_of_many_packages_tell_nothing(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    for count in (3, 4):
        files = {"srv/shop.js": f"let {LONG};{SOURCE}"}
        for name in names[:count]:
            files |= package(SOURCE, name)
        found = scanned(tmp_path, files, names[:count]).values()
        assert {BUNDLE in one.files for one in found} == {count == 3}
        assert {one.perhaps_in for one in found} == {() if count == 3 else (BUNDLE,)}


def test_the_whole_of_a_package_has_to_tell(tmp_path: Path) -> None:
    """One module of many may be all that was taken."""
    plain = "function f(a, b) { return a * b + a }\n" * 9
    files = {**package(SOURCE), f"{HOME}/ms/other.js": plain, "srv/shop.js": f"let {LONG}"}
    assert scanned(tmp_path, files)["ms"].perhaps_in == (BUNDLE,)
    files[f"{HOME}/ms/other.js"] = "module.exports = require('./index')"
    assert scanned(tmp_path, files)["ms"].perhaps_in == ()


@pytest.mark.parametrize(("count", "held"), [(8, True), (1, False)])
def test_what_a_package_needs_is_perhaps_where_it_is(
    tmp_path: Path, count: int, held: bool
) -> None:
    """And what that needs, however little there is of the first one."""
    files, other = package(SOURCE), ("qs", "ajv", "cors", "glob")
    for name in other:
        files |= package(";".join(f"f('{name}keeper{n}')" for n in NUMBERS), name)
    files[f"{HOME}/ms/package.json"] = '{"dependencies": {"qs": "1", "absent": "2"}}'
    files[f"{HOME}/qs/package.json"] = '{"dependencies": {"x": "npm:ajv@1", "ms": "1"}}'
    files[f"{HOME}/cors/package.json"] = '{"dependencies": {"glob": "1"}}'
    files["srv/shop.js"] = f"let {LONG};" + ";".join(ERRORS[:count])
    found = scanned(tmp_path, files, ("ms", *other))
    assert (BUNDLE in found["ms"].files) is held
    assert {name: one.perhaps_in for name, one in found.items()} == {
        "ms": (BUNDLE,), "qs": (BUNDLE,), "ajv": (BUNDLE,), "cors": (), "glob": ()}  # fmt: skip


@pytest.mark.parametrize(
    ("main", "source", "open_"),
    [
        ("node.js", "module.exports = require('util').deprecate;", True),
        ("node.js", "module.exports = require('./index');", False),
        ("node.js", "export * from './index'", False),
        ("index.js", "module.exports = require('util').deprecate;", False),
    ],
)
def test_a_script_that_comes_alone_has_to_tell(
    tmp_path: Path, main: str, source: str, open_: bool
) -> None:
    """As that of util-deprecate, which hands on a function of Node.js."""
    files = {**package(SOURCE), f"{HOME}/ms/node.js": source, "srv/shop.js": f"let {LONG}"}
    files[f"{HOME}/ms/package.json"] = f'{{"main": "{main}"}}'
    assert scanned(tmp_path, files)["ms"].perhaps_in == ((BUNDLE,) if open_ else ())


@pytest.mark.parametrize(
    ("own", "open_"),
    [
        ("export {hideBin} from './bin.js'; export {f} from './index.js'", True),
        ("import {hideBin} from './bin'; export {hideBin}", True),
        ("import {hideBin} from './other.js'; export {hideBin}", False),
        ("module.exports = require('./bin.js')", False),
    ],
)
def test_what_an_entry_imports_may_come_without_it(tmp_path: Path, own: str, open_: bool) -> None:
    """As yargs' ``hideBin``, of which Nitro takes nothing else."""
    files = {**package(SOURCE), "srv/shop.js": f"let {LONG}", f"{HOME}/ms/helpers.mjs": own}
    files[f"{HOME}/ms/bin.js"] = "export const hideBin = (a) => a.slice(2);"
    files[f"{HOME}/ms/package.json"] = '{"main": "helpers.mjs"}'
    assert scanned(tmp_path, files)["ms"].perhaps_in == ((BUNDLE,) if open_ else ())


@pytest.mark.parametrize(
    ("import_", "along"),
    [
        ('import{u as f}from"./parts/ms.js"', True),
        ('import"./parts/ms.js"', True),
        ('export*from"../srv/parts/ms"', True),
        ('import{u as f}from"./parts/b.mjs"', True),
        ('import{u as f}from"./ms.js"', False),
        ('import("./parts/ms.js")', False),
        ('require("./parts/ms.js")', False),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_what_a_script_imports_runs_with_it(
    tmp_path: Path, import_: str, along: bool, held: bool
) -> None:
    """A browser that has the imported one asks for this one alone."""
    part = "/srv/parts/ms.js"
    files = {**package(SOURCE), "srv/shop.js": f"{import_};f(1)",
             "srv/parts/b.mjs": 'export*from"./ms.js"', "srv/parts/other.js": "f()",
             part[1:]: f"let {LONG};" + ";".join(ERRORS if held else ERRORS[3:4])}  # fmt: skip
    found = scanned(tmp_path, files)["ms"]
    assert (part.encode() in found.files) is held
    perhaps = {b"/srv/parts/b.mjs"} | ({BUNDLE} if along else set())
    assert set(found.perhaps_in) == perhaps | (set() if held else {part.encode()})


@pytest.mark.parametrize(
    "home",
    ["usr/local/lib/node_modules/npm/node_modules/ms", "usr/share/nodejs/ms",
     "build/node_modules/ms", "build/node_modules/.pnpm/ms@2.1.3/node_modules/ms"],
)  # fmt: skip
def test_packages_anywhere_may_be_in_a_bundle_anywhere(tmp_path: Path, home: str) -> None:
    """Beside others as well, and those that a package manager or a distribution brought."""
    plain = "function f(a, b) { return a * b + a }\n" * 9
    for bundle, beside in ((b"/app/main.js", False), (b"/srv/dist/main.js", True)):
        files = {f"{home}/package.json": "{}", f"{home}/index.js": plain,
                 "srv/node_modules/qs/package.json": "{}",
                 "srv/node_modules/qs/index.js": SOURCE,
                 bundle.decode()[1:]: f"let {LONG}"}  # fmt: skip
        at = artifact("npm", "ms", at=(f"/{home}/package.json",))
        qs = artifact("npm", "qs", at=("/srv/node_modules/qs/package.json",))
        found = scanned(tmp_path, files, (), at, qs)
        assert found["ms"].perhaps_in == (bundle,)
        assert found["qs"].perhaps_in == ((bundle,) if beside else ())


MARK = "function getDefaultExportFromCjs (x) {\n\treturn x.default;\n}\n"
NAMED = "// node_modules/qs/lib/index.js\nlet own;\n"
ESBUILD = (
    "#!/usr/bin/env node\nvar __getOwnPropNames = Object.getOwnPropertyNames;\n__commonJS();\n"
)
LINES = "".join(f"  if (value === {n}) return asManyOfThem({n} * each);\n" for n in range(9))


@pytest.mark.parametrize(
    ("source", "bundle", "open_"),
    [
        ("export function r(e) { return e ? r : 0 }\n" * 3, MARK, True),
        ("export function r(e) { return e ? r : 0 }\n" * 3, "let own;\n", False),
        (LINES, MARK, False),
        (LINES + "f(a * b);\n" * 900, MARK, True),
        (SOURCE, MARK, False),
        ("".join(f"a.{n}Customers.serve();\n" for n in NUMBERS), MARK, True),
        (SOURCE, MARK + ERRORS[3], True),
        ("f(a * b);\n" * 90, MARK + NAMED, True),
        ("f(a * b);\n" * 90, ESBUILD + NAMED, False),
        ("f(a * b);\n" * 90, "/******/ (() => { // webpackBootstrap\n" + MARK + NAMED, False),
        ("f(a * b);\n" * 90, ESBUILD + NAMED + "export { a };\n", True),
        ("f(a * b);\n" * 90, ESBUILD, True),
    ],
)
def test_a_bundle_that_was_not_minified_tells_by_lines_as_well(
    tmp_path: Path, source: str, bundle: str, open_: bool
) -> None:
    """As what SvelteKit and Nuxt write for the server, with clsx and its like in it."""
    assert verdict(tmp_path, source, bundle) == ("open" if open_ else "not in it")


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("// node_modules/qs/lib/index.js", "open"),
        ("// node_modules/ms/index.js", "held"),
    ],
)
def test_names_of_npm_packages_are_not_all_that_a_bundle_holds(
    tmp_path: Path, comment: str, said: str
) -> None:
    place = "/usr/share/javascript/ms/ms.js"
    files = {place[1:]: "f(a * b);\n" * 90, "srv/shop.js": f"{ESBUILD}{comment}\nlet own;\n"}
    found = scanned(tmp_path, files, (), deb("libjs-ms", place))["libjs-ms"]
    assert (BUNDLE in found.files) is (said == "held")
    assert found.perhaps_in == (() if said == "held" else (BUNDLE,))


@pytest.mark.parametrize("count", [3, 4])
def test_lines_of_many_packages_tell_of_none(tmp_path: Path, count: int) -> None:
    """lodash and lodash.isfunction, .isequal, .merge and so on have the same."""
    names = ("ms", "a", "b", "c")[:count]
    files = {"srv/shop.js": MARK + LINES}
    for name in names:
        files |= package(LINES, name)
    found = scanned(tmp_path, files, names)["ms"]
    assert (BUNDLE in found.files) is (count == 3)
    assert found.perhaps_in == (() if count == 3 else (BUNDLE,))


def test_what_a_package_needs_is_perhaps_in_a_bundle_with_lines_of_it(tmp_path: Path) -> None:
    files = package(LINES) | package(SOURCE, "qs")
    files[f"{HOME}/ms/package.json"] = '{"dependencies": {"qs": "1"}}'
    for mark, places in ((MARK, (BUNDLE,)), ("let own;\n", ())):
        found = scanned(tmp_path, {**files, "srv/shop.js": mark + LINES}, ("ms", "qs"))
        assert BUNDLE in found["ms"].files
        assert found["qs"].perhaps_in == places


def test_names_of_the_language_prove_no_package(tmp_path: Path) -> None:
    """minimist was held by each bundle of lodash, in an image of these two."""
    names = ("forEach", "indexOf", "concat", "filter", "charCodeAt", "prototype", "hasOwnProperty")
    source = "; ".join(f"a.{name}(b)" for name in names)
    files = {**package(source), "srv/shop.js": f"let {LONG}{source.replace(' ', '')}"}
    found = scanned(tmp_path, files)["ms"]
    assert BUNDLE not in found.files
    assert found.perhaps_in == (BUNDLE,)


def test_what_a_distribution_packs_may_be_in_a_bundle_as_well(tmp_path: Path) -> None:
    plain = "function f(a, b) { return a * b + a }\n" * 9
    places = ("/usr/share/nodejs/ms/package.json", "/usr/share/nodejs/ms/index.js")
    files = {places[0][1:]: "{}", places[1][1:]: plain, "usr/share/nodejs/qs/package.json": "{}",
             "usr/share/nodejs/qs/index.js": SOURCE, "srv/shop.js": f"let {LONG}"}  # fmt: skip
    found = scanned(
        tmp_path, files, (), artifact("npm", "ms", at=places[:1]),
        artifact("npm", "qs", at=("/usr/share/nodejs/qs/package.json",)), deb("node-ms", *places),
        deb("node-qs", "/usr/share/nodejs/qs/package.json", "/usr/share/nodejs/qs/index.js"),
    )  # fmt: skip
    assert found["node-ms"].perhaps_in == found["ms"].perhaps_in == (BUNDLE,)
    assert found["node-qs"].perhaps_in == found["qs"].perhaps_in == ()


def test_what_bytenode_compiled_may_hold_everything(tmp_path: Path) -> None:
    files = {**package(SOURCE), "srv/shop.jsc": "compiled"}
    assert scanned(tmp_path, files)["ms"].perhaps_in == (b"/srv/shop.jsc",)


def test_names_of_a_bundle_and_what_servers_send_of_it_count(tmp_path: Path) -> None:
    files = {**package(SOURCE), "srv/shop.js": f"let {LONG}", "srv/shop.js.gz": "packed"}
    files |= {f"{HOME}/ms/other.js": "function f(a, b) { return a * b + a }\n" * 9}
    assert scanned(tmp_path, files)["ms"].perhaps_in == (BUNDLE, BUNDLE + b".gz")
    files["srv/shop.js"] += ";".join(ERRORS)
    found = scanned(tmp_path, files)["ms"]
    assert {BUNDLE, BUNDLE + b".gz"} <= set(found.files)


def test_too_many_bundles_leave_packages_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vexstream.bundled_strings.MAX_CARRIERS", 1)
    files = package("function f(a, b) { return a * b + a }\n" * 9)
    files["srv/shop.js"] = f"let {LONG}"
    assert scanned(tmp_path, files)["ms"].unobservable is None
    files["srv/other.js"] = f"let {LONG}"
    assert scanned(tmp_path, files)["ms"].unobservable is not None


SPEC = "/usr/lib/ruby/specifications/ms-1.gemspec"
BROUGHT = [
    (deb("libjs-ms", "/usr/share/javascript/ms/ms.js"), "usr/share/javascript/ms/ms.js"),
    (deb("php-ms", "/usr/share/php/ms/ms.js"), "usr/share/php/ms/ms.js"),
    (artifact("gem", "ms-rails", at=(SPEC,)), "usr/lib/ruby/gems/ms-1/app/assets/ms.js"),
    (artifact("python", "xstatic-ms", files=("ms/ms.js",)), f"{SITE[1:]}/ms/ms.js"),
    (artifact("php-composer", "acme/ms", at=("/srv/vendor/composer/installed.json",)),
     "srv/vendor/acme/ms/ms.js"),
]  # fmt: skip


@pytest.mark.parametrize(("package_", "place"), BROUGHT)
@pytest.mark.parametrize(
    ("source", "bundle", "said"),
    [
        (SOURCE, f"let {LONG};" + ";".join(ERRORS), "held"),
        (SOURCE, f"let {LONG};" + ERRORS[3], "open"),
        (SOURCE, f"let {LONG};", "not in it"),
        ("function f(a, b) { return a * b + a }\n" * 9, f"let {LONG};", "open"),
        ("function f(a, b) { return a * b + a }\n" * 9, "let own;\n", "not in it"),
    ],
)
def test_scripts_of_other_packages_than_npms_go_into_bundles_as_well(
    tmp_path: Path, package_: Artifact, place: str, source: str, bundle: str, said: str
) -> None:
    """As libjs-is-typedarray, of which a bundle that was minified has nothing but its one line."""
    files = {place: source, SPEC[1:]: "", "srv/shop.js": bundle}
    [found] = scanned(tmp_path, files, (), package_).values()
    assert found.unobservable is None
    held, open_ = BUNDLE in found.files, found.perhaps_in == (BUNDLE,)
    assert ("held" if held else "open" if open_ else "not in it") == said


def test_what_has_to_be_compiled_first_does_not_show(tmp_path: Path) -> None:
    home, gem = "usr/lib/ruby/gems/ms-1", artifact("gem", "ms-rails", at=(SPEC,))
    files = {SPEC[1:]: "", f"{home}/ms.js": SOURCE, "srv/shop.js": f"let {LONG}"}
    assert scanned(tmp_path, files, (), gem)["ms-rails"].perhaps_in == ()
    files[f"{home}/more.coffee"] = "f = (a, b) -> a * b + a\n" * 9
    assert scanned(tmp_path, files, (), gem)["ms-rails"].perhaps_in == (BUNDLE,)


def test_copies_that_other_packages_bring_along_leave_an_npm_package_known(tmp_path: Path) -> None:
    """jQuery is in Django, Sphinx, phpMyAdmin and WordPress."""
    brought = [deb(f"web{n}", f"/usr/share/web{n}/ms.js") for n in range(4)]
    files = {**package(SOURCE), "srv/shop.js": f"let {LONG};{SOURCE}"}
    files |= {f"usr/share/web{n}/ms.js": SOURCE for n in range(4)}
    found = scanned(tmp_path, files, ("ms",), *brought)
    assert {name for name, one in found.items() if BUNDLE in one.files} == {
        "ms", "web0", "web1", "web2", "web3"}  # fmt: skip


@pytest.mark.parametrize("name", ["libjs-ms", "node-ms"])
def test_a_deb_is_loaded_by_the_name_of_the_npm_package(tmp_path: Path, name: str) -> None:
    place = "/usr/share/javascript/ms/ms.js"
    files = {place[1:]: SOURCE, "srv/shop.js": f"let {LONG};{';'.join(ERRORS)};require('ms')"}
    found = scanned(tmp_path, files, (), deb(name, place))[name]
    assert BUNDLE not in found.files
    assert found.perhaps_in == (BUNDLE,)


@pytest.mark.parametrize("place", ["/usr/share/doc/x/x.js", "/usr/share/x/examples/x.js"])
def test_what_nobody_loads_is_in_no_bundle(tmp_path: Path, place: str) -> None:
    files = {place[1:]: "f()", "srv/shop.js": f"let {LONG}"}
    assert scanned(tmp_path, files, (), deb("x", place))["x"].perhaps_in == ()


def test_declarations_and_the_application_are_not_opened(tmp_path: Path) -> None:
    """Nor is a package that was made at home by its own bundle."""
    files = {
        f"{HOME}/types/package.json": "{}", f"{HOME}/types/index.d.ts": "declare const a: 1;",
        "srv/package.json": "{}", "srv/shop.js": f"let {LONG}", "opt/own/own.js": f"let {LONG}",
        "var/lib/dpkg/info/own.list": "/opt/own/own.js\n",
    }  # fmt: skip
    found = scanned(
        tmp_path, files, ("types",),
        artifact("npm", "shop", at=("/srv/package.json",)), deb("own", "/opt/own/own.js"),
    )  # fmt: skip
    assert {(package.unobservable, package.perhaps_in) for package in found.values()} == {
        (None, ())
    }


def test_a_bundle_of_another_package_counts_not(tmp_path: Path) -> None:
    files = {**package("f()"), "usr/share/shop.js": f"let {LONG}"}
    found = scanned(tmp_path, files, ("ms",), deb("shop", "/usr/share/shop.js"))
    assert found["ms"].perhaps_in == ()


@pytest.mark.parametrize(
    "limit",
    ["bundled_words.MAX_WORD_BYTES", "bundled_strings.MAX_TRACES", "bundled_strings.MAX_WORK"],
)
def test_too_many_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"vexstream.{limit}", 2)
    files = {**package(SOURCE), "srv/shop.js": f"let {LONG};" + ";".join(ERRORS)}
    assert scanned(tmp_path, files)["ms"].unobservable is not None


@pytest.mark.parametrize(
    "limits",
    [
        {"bundled_words.MAX_WORD_BYTES": 20_000},
        {"bundled_words.MAX_WORD_BYTES": 20_000, "bundled_words.BLOCK": 1},
        {"bundled_words.MAX_WORD_BYTES": 20_000, "bundled_words.BLOCK": 2},
        {"bundled_lines.MAX_LINES": 40},
        {"bundled_words.MAX_WORD_BYTES": 20_000, "bundled_lines.MAX_LINES": 40},
    ],
)
def test_too_many_scripts_are_read_twice_and_tell_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Mapping[str, int]
) -> None:
    names = ("ms", "qs", "ajv", "got", "none")
    files: dict[str, str] = {}
    for name in names[:4]:
        errors = [f"throw Error('{name}however {name}only {name}{n} {name}waited {name}outside')"
                  for n in NUMBERS]  # fmt: skip
        files |= package(";\n".join(errors) + ";\n" + "\n".join(
            f"  if (value === {n}) return as{name}Many({n});" for n in range(9)), name)  # fmt: skip
        files[f"srv/{name}-whole.js"] = f"let {LONG};" + ";".join(errors)
        files[f"srv/{name}-part.js"] = f"let {LONG};" + errors[3]
        files[f"srv/{name}-plain.js"] = "\n".join(
            f"\tif (value === {n}) return as{name}Many({n});" for n in range(4))  # fmt: skip
        files[f"srv/{name}-loads.js"] = f"let {LONG};require('{name}');" + ";".join(errors)
        files[f"srv/{name}-own.js"] = "\n".join(
            f"  let {name}Number{n} = prepare{n}Something('of {n} words');" for n in range(60)
        )
    files |= package("function f(a, b) { return a * b + a }\n" * 9, "none")
    whole = scanned(tmp_path, files, names)
    assert {f"/srv/ms-{one}.js".encode() for one in ("whole", "plain")} <= set(whole["ms"].files)
    assert whole["ms"].perhaps_in == (b"/srv/ms-loads.js", b"/srv/ms-part.js")
    assert len(whole["none"].perhaps_in) == 12
    readings: list[bool] = []
    take = scripts._Reader.take

    def taken(reader: scripts._Reader, *into: Any) -> None:
        readings.append(True)
        take(reader, *into)

    monkeypatch.setattr(scripts._Reader, "take", taken)
    for limit, value in limits.items():
        monkeypatch.setattr(f"vexstream.{limit}", value)
    assert scanned(tmp_path, files, names) == whole
    assert len(readings) == 2


def test_a_long_script_of_a_package_is_read_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "MAX_SCRIPT_BYTES", 100)
    assert verdict(tmp_path, SOURCE, f"let {LONG}") == "open"
