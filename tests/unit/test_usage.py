"""Which packages were used: the quick way gives what the rule says, file by file."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import JOB, WEB, package, scan
from vexstream.evidence import FileUse, Use
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.relocated import is_code
from vexstream.scan import Scan
from vexstream.usage import FileIndex, PackageUse, Usage

_PATHS = st.sampled_from(
    [
        b"/usr/bin/tool",
        b"/usr/share/doc/tool/copyright",
        b"/usr/share/doc/tool/run.py",
        b"/usr/share/doc/tool/__pycache__/run.cpython-311.pyc",
        b"/etc/tool.conf",
        b"/v/a/m.py",
        b"/v/a/__pycache__/m.cpython-311.pyc",
        b"/v/a/__pycache__/m.cpython-311.opt-1.pyc",
        b"/v/a/m.pyc",
        b"/v/a-1.dist-info/LICENSE.py",
        b"/v/a-1.dist-info/__pycache__/LICENSE.cpython-311.pyc",
        b"/v/a-1.dist-info/RECORD",
        b"/not/owned",
    ]
)
_USES = st.sampled_from([Use.OPENED, Use.EXECUTED, Use.MAPPED, Use.OPENED | Use.REWRITTEN])
_FILE_USES = st.builds(
    FileUse, _USES.map(int), st.integers(0, 3), st.sampled_from([(WEB,), (JOB,), (JOB, WEB)])
)
_SCANS = st.lists(st.lists(_PATHS, max_size=5), max_size=4).map(
    lambda owned: scan([package(f"p{n}", *files) for n, files in enumerate(owned)], [])
)


@pytest.mark.parametrize(
    ("owned", "copy", "use"),
    [
        ("/usr/src/nextcloud/3rdparty/sabre/dav/lib/Server.php",
         "/var/www/html/3rdparty/sabre/dav/lib/Server.php", Use.OPENED),
        ("/app/node_modules/ms/index.js", "/data/node_modules/ms/index.js", Use.OPENED),
        ("/v/lib/python3.11/site-packages/six.py", "/w/site-packages/six.py", Use.OPENED),
        ("/v/lib/python3.11/site-packages/a/b.py",
         "/w/site-packages/a/__pycache__/b.cpython-311.pyc", Use.OPENED),
        ("/v/lib/python3.11/site-packages/a/b.py",
         "/cache/v/lib/python3.11/site-packages/a/b.cpython-311.pyc", Use.OPENED),
        ("/srv/vendor/acme/x/src/A.php", "/cache/1a2b/srv/vendor/acme/x/src/A.php.bin", Use.OPENED),
        ("/app/node_modules/ms/index.js", "/ms/index.js", Use.OPENED),
        ("/v/lib/python3.11/site-packages/six.py", "/__pycache__/six.cpython-311.pyc", Use.OPENED),
        ("/v/site-packages/a/b.py", "/a/__pycache__/b.cpython-311-pytest-8.3.4.pyc", Use.OPENED),
        ("/app/vendor/ramsey/uuid/functions.php", "/ramsey/uuid/functions.php", Use.OPENED),
        ("/opt/lib/log4j-core-2.14.1.jar", "/var/lib/felix/log4j-core-2.14.1.jar", Use.OPENED),
        ("/usr/share/jenkins/ref/plugins/git.jpi", "/jobs/plugins/git.jpi", Use.OPENED),
        ("/usr/bin/tool", "/data/tool", Use.EXECUTED),
        ("/usr/bin/python3.11", "/data/venv/bin/python3.11", Use.EXECUTED),
        ("/usr/bin/python3.11", "/data/venv/bin/python3", Use.EXECUTED),
        ("/usr/bin/python3.11", "/data/venv/bin/python", Use.EXECUTED),
        ("/opt/conda/bin/python3", "/host/python3.12", Use.EXECUTED),
        ("/usr/bin/php8.2", "/data/php", Use.MAPPED),
        ("/usr/bin/perl", "/host/perl5.36.0", Use.EXECUTED),
        ("/usr/lib/libssl.so.3", "/data/lib/libssl.so.3", Use.MAPPED),
    ],
)  # fmt: skip
def test_code_that_runs_from_a_copy_on_a_volume_is_in_use(owned: str, copy: str, use: Use) -> None:
    index = FileIndex(scan([package("p", owned.encode())], []))
    assert index.owners(copy.encode(), use | Use.REWRITTEN) == ("p",)
    assert index.owners(copy.encode(), use) == ()


def test_a_copy_may_be_of_every_package_with_a_file_of_that_name() -> None:
    found = [package(name, f"/opt/{name}/libz.so.1".encode(), b"/opt/lib.jar") for name in "abc"]
    index = FileIndex(scan(found, []))
    for copy in (b"/data/libz.so.1", b"/data/lib.jar"):
        assert index.owners(copy, Use.MAPPED | Use.REWRITTEN) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("path", "use"),
    [("/host/python3.12", Use.EXECUTED), ("/host/python2", Use.EXECUTED),
     ("/host/pythonx", Use.EXECUTED), ("/host/python3.11", Use.OPENED)],
)  # fmt: skip
def test_an_interpreter_of_another_version_is_no_copy(path: str, use: Use) -> None:
    index = FileIndex(scan([package("p", b"/usr/bin/python3.11")], []))
    assert index.owners(path.encode(), use | Use.REWRITTEN) == ()


@pytest.mark.parametrize(
    "path",
    [b"/w/project/src/index.js", b"/src/index.js", b"/data/node_modules/ns/index.js",
     b"/w/a/site-packages/b.py", b"/w/LICENSE", b"/host/usr/bin/tool", b"/host/usr/lib/libz.so.1",
     b"/w/entrypoint.sh", b"/data/tool.conf"],
)  # fmt: skip
def test_other_files_on_a_volume_are_nobodys(path: bytes) -> None:
    owned = (b"/app/node_modules/ms/index.js", b"/app/src/index.js", b"/usr/bin/tool",
             b"/usr/lib/libz.so.1", b"/v/lib/python3.11/site-packages/a/b.py", b"/etc/tool.conf",
             b"/usr/share/doc/tool/LICENSE", b"/opt/entrypoint.sh")  # fmt: skip
    index = FileIndex(scan([package("p", *owned)], []))
    assert index.owners(path, Use.OPENED | Use.REWRITTEN) == ()


@pytest.mark.parametrize("name", ["shop.jsa", "shop.aot", "C290M4F1A64P_x_G41L00"])
def test_shared_classes_that_are_not_of_the_image_are_told_of(name: str) -> None:
    path = f"/cache/{name}".encode()
    for use, told in ((Use.OPENED | Use.REWRITTEN, path), (Use.OPENED, None)):
        usage = Usage(FileIndex(scan([package("p", b"/opt/p.jar")], [])))
        usage.add([(path, FileUse(int(use), 1, (WEB,))), (b"/etc/x", FileUse(1, 1, (WEB,)))])
        assert usage.shared_classes == told
        assert not usage.packages()
    assert is_code(path, run=False)
    assert not is_code(b"/cache/C290", run=False)


def by_the_rule(found: Scan, files: dict[bytes, FileUse]) -> dict[str, PackageUse]:
    """Every package on its own, with nothing kept from one file to the next."""
    used = {}
    for owner in found.packages:
        own = {owner_path(path) for path in owner.files}
        mine = [
            (kind(path), use, path)
            for path, use in files.items()
            if owner_path(path) in own
            and (kind(path) is not Kind.METADATA or use.use & (Use.EXECUTED | Use.MAPPED))
        ]
        if mine:
            used[owner.id] = PackageUse(
                min((k is not Kind.CODE, u.first_seen_us, p) for k, u, p in mine)[2],
                min(u.first_seen_us for _, u, _ in mine),
                tuple(sorted({w for _, u, _ in mine for w in u.workloads})),
                any(k is Kind.CODE or u.use & (Use.EXECUTED | Use.MAPPED) for k, u, _ in mine),
            )
    return used


@given(_SCANS, st.dictionaries(_PATHS, _FILE_USES), st.randoms())
def test_use_is_what_the_rule_says_in_whatever_order_files_come(
    found: Scan, files: dict[bytes, FileUse], chooser: Random
) -> None:
    index = FileIndex(found)
    assert index.used(files) == by_the_rule(found, files)
    usage = Usage(index)
    shuffled = list(files.items()) * 2
    chooser.shuffle(shuffled)
    for item in shuffled:
        usage.add([item])
    assert usage.packages() == by_the_rule(found, files)


def test_files_that_may_be_any_carrier_are_not_looked_at_for_each() -> None:
    """An application that keeps its packages on a volume uses thousands of them, and an image may
    have a thousand sets of carriers: their product held a worker up for longer than its group
    waits."""
    held = [
        replace(package(f"p{n}", b"/p%d" % n), perhaps_in=(b"/%d.js" % n, b"/all.js"))
        for n in range(1000)
    ]
    usage = Usage(FileIndex(scan(held, [])))
    elsewhere = int(Use.OPENED | Use.REWRITTEN)
    files = [(b"/data/%d.js" % n, FileUse(elsewhere, 1000 + n, ())) for n in range(3000)]
    own = [(b"/7.js", FileUse(int(Use.OPENED), 5, ())), (b"/8.js", FileUse(1, 2000, ()))]
    usage.add(reversed([*own, *files]))
    assert usage._doubts.keys() == {7, 8}
    doubts = usage.doubts()
    assert len(doubts) == 1000
    assert doubts["p7"] == (5, b"/7.js")
    assert doubts["p8"] == doubts["p9"] == (1000, b"/data/0.js")


@given(_SCANS)
def test_metadata_alone_is_no_observable_file(found: Scan) -> None:
    index = FileIndex(found)
    for owner in found.packages:
        kinds = {owner_path(path): kind(path) for path in owner.files}
        observable = [what for what in kinds.values() if what is not Kind.METADATA]
        assert index.observable_files[owner.id] == len(observable)
