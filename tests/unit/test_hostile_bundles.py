"""Images whose scripts and packages were made to burn the scanner's memory and time: it stops at
its limits, and what it did not look at proves nothing."""

import time

import pytest

from tests.unit.images import artifact, image
from vexstream import (
    bundled,
    bundled_imports,
    bundled_lines,
    bundled_needs,
    bundled_strings,
    bundled_words,
)
from vexstream.bundled import beside, holders_of, places_of
from vexstream.bundled_imports import Imports
from vexstream.bundled_lines import Lines
from vexstream.bundled_needs import Needs
from vexstream.bundled_strings import Strings
from vexstream.scan import Package

NAMES = 20_000
LINES = [f"  if (value === {n}) return 'as many as {n} of them';\n".encode() for n in range(9)]


def packages(count: int) -> list[Package]:
    return [Package(str(n), f"p{n % 3}", "1", "npm", "") for n in range(count)]


def test_short_names_that_a_script_loads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_words, "MAX_WORD_BYTES", 1000 * 128)
    for count in (500, 2000):
        strings, content = Strings(), b";".join(b'from"%x"' % n for n in range(count))
        strings.begin(b"/a.js", minified=True)
        strings.add(content)
        assert strings.overfull is (count > 1000)
        for names in ([], [f"{n:x}" for n in range(count)]):
            strings.again([Package(name, name, "1", "npm", "") for name in names])
            strings.begin(b"/a.js", minified=True)
            strings.add(content)
            assert strings.too_many is (len(names) > 1000)


def test_names_that_packages_export_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_strings, "MAX_TRACES", 1000)
    for count in (500, 2000):
        strings = Strings()
        strings.compare([0], b"/a.js", b";".join(b"exports.a%x=1" % n for n in range(count)))
        assert strings.too_many is (count > 1000)


def test_names_in_comments_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_lines, "MAX_LINES", 1000)
    for count in (500, 2000):
        lines = Lines()
        content = b"".join(b"// node_modules/a%x/i.js\n" % n for n in range(count))
        lines.add(b"/a.js", content)
        assert lines.overfull is (count > 1000)
        for names in ([], [f"a{n:x}" for n in range(count)]):
            lines.again([Package(name, name, "1", "npm", "") for name in names])
            lines.add(b"/a.js", content)
            assert lines.too_many is (len(names) > 1000)


def test_lines_for_which_there_was_no_room_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_lines, "MAX_LINES", 5)
    lines, made = Lines(), packages(1)
    lines.add(b"/a.js", b"".join(LINES))
    lines.compare([0], b"".join(LINES))
    [found] = bundled_lines.with_bundles(made, image(b"/a.js"), lines, [0])
    assert found.unobservable is not None


def test_strings_for_which_there_was_no_room_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_words, "MAX_WORD_BYTES", 5)
    strings = Strings()
    strings.begin(b"/a.js", minified=True)
    strings.add(b"let customers")
    strings.found([])
    assert strings.too_many


def test_lines_that_many_packages_share_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_lines, "MAX_SHARED", 1000)
    for count in (100, 200):
        lines = Lines()
        lines.add(b"/a.js", b"".join(LINES))
        lines.compare(range(count), b"".join(LINES))
        assert lines.too_many is (9 * count > 1000)


def test_scripts_that_hold_many_packages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_lines, "MAX_HELD", 1000)
    for count in (100, 2000):
        lines, made = Lines(), packages(count)
        lines.add(b"/a.js", b"".join(LINES))
        lines.compare(range(count), b"".join(LINES))
        found = bundled_lines.with_bundles(made, image(b"/a.js"), lines, range(count))
        assert {one.unobservable is None for one in found} == {count == 100}


def test_scripts_with_many_names_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_lines, "MAX_HELD", 1000)
    place = image(b"/a.js", hard={b"/%d.js" % n: b"/a.js" for n in range(300)})
    for count in (2, 9):
        lines, made = Lines(), packages(count)
        lines.add(b"/a.js", b"".join(LINES))
        lines.compare(range(count), b"".join(LINES))
        found = bundled_lines.with_bundles(made, place, lines, range(count))
        assert {one.unobservable is None for one in found} == {count == 2}


def test_what_manifests_name_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_needs, "MAX_NAMES", 100)
    needs = Needs()
    for count in (50, 60):
        names = ",".join(f'"p{n}": "1"' for n in range(count))
        needs.describe([0], b"/package.json", f'{{"dependencies": {{{names}}}}}'.encode())
        assert needs.too_many is (count == 60)
    assert needs.is_entry(0, b"/anything.js")


def test_patterns_that_scripts_are_held_against_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundled_needs, "MAX_WORK", 100)
    needs = Needs()
    needs.describe([0], b"/p/package.json", b'{"exports": ["./a/*", "./b/*"]}')
    said = [needs.is_entry(0, b"/p/c.js") for _ in range(52)]
    assert said == [False] * 50 + [True] * 2
    assert needs.too_many


def test_packages_that_others_need_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_needs, "MAX_WORK", 1000)
    for count in (10, 40):
        made = [Package(str(n), "a", "1", "npm", "") for n in range(count)]
        needs = Needs()
        needs.describe(range(count), b"/package.json", b'{"dependencies": {"a": "1", "b": "1"}}')
        found = needs.along(made, {n: 1 << n for n in range(count)})
        assert needs.too_many is (count == 40)
        if count == 10:
            assert set(found.values()) == {(1 << count) - 1}


@pytest.mark.parametrize("limit", ["MAX_IMPORTS", "MAX_WORK"])
def test_imports_are_counted(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [b"/srv/%d.js" % number for number in range(60)]
    every = b";".join(b'import"./%d.js"' % number for number in range(60))
    for allowed in (3600 + 60, 1000):
        monkeypatch.setattr(bundled_imports, limit, allowed)
        imports = Imports()
        for number, path in enumerate(paths):
            imports.add(number, path, every)
        imports.along(1, paths)
        assert imports.too_many is (allowed == 1000)


def test_a_bundle_with_many_names_is_looked_at_once() -> None:
    names = {b"/srv/%d.js" % n: b"/srv/a.js" for n in range(NAMES)}
    bundles = dict.fromkeys((b"/srv/a.js", *names), True)
    place = image(b"/srv/a.js", hard=names, bundles=bundles, holders=dict.fromkeys(bundles, "npm"))
    begun = time.process_time()
    assert len(places_of(place, bundles)) == NAMES + 1
    assert len(holders_of([], [], place)["npm"]) == NAMES + 1
    assert time.process_time() - begun < 5


def test_packages_in_many_directories_are_beside_all_bundles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundled, "MAX_BESIDE", 3)
    bundles = {b"/a/%d.js" % n: True for n in range(5)} | {b"/b/c.js": True}
    place = image(*bundles, bundles=bundles)
    found = [artifact("npm", name) for name in "abc"]
    owned = [{b"/%s/node_modules/x.js" % name} for name in (b"b", b"a", b"d")]
    told = beside(found, owned, place)
    assert [len(told[one.id]) for one in found] == [1, 5, 6]
