"""What counts as use of a package, and under which path a file is owned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexstream.filekinds import Kind, kind, metadata_reason, owner_path

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda n: b"/" not in n and n not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=6).map(lambda names: b"/" + b"/".join(names))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/usr/bin/openssl", Kind.CODE),
        (b"/usr/lib/x86_64-linux-gnu/libssl.so.3", Kind.CODE),
        (b"/usr/lib/python3/dist-packages/requests/api.py", Kind.CODE),
        (b"/srv/app/node_modules/ms/index.js", Kind.CODE),
        (b"/opt/app/app.JAR", Kind.CODE),
        (b"/etc/ssl/openssl.cnf", Kind.DATA),
        (b"/usr/share/zoneinfo/UTC", Kind.DATA),
        (b"/site-packages/django/conf/locale/de/LC_MESSAGES/django.mo", Kind.DATA),
        (b"/usr/share/doc/openssl/copyright", Kind.METADATA),
        (b"/usr/share/locale/de/LC_MESSAGES/tar.mo", Kind.METADATA),
        (b"/var/lib/dpkg/info/tar.list", Kind.METADATA),
        (b"/lib/apk/db/installed", Kind.METADATA),
        (b"/usr/lib/sysimage/rpm/rpmdb.sqlite", Kind.METADATA),
        (b"/v/flask-2.2.2.dist-info/METADATA", Kind.METADATA),
        (b"/v/flask-2.2.2.dist-info/licenses/LICENSE.txt", Kind.METADATA),
        (b"/v/six.egg-info/PKG-INFO", Kind.METADATA),
        (b"/v/six-1.16.egg-info", Kind.METADATA),
    ],
)
def test_kind(path: bytes, expected: Kind) -> None:
    assert kind(path) is expected


@pytest.mark.parametrize(
    "path",
    [
        b"/v/flask-2.2.2.dist-info/hook.py",  # code that hides among records
        b"/home/usr/share/doc/tool",  # the directory of that name, but not the system's
        b"/usr/share/docs/tool",
        b"/v/METADATA",
        b"/usr/share/doc/fzf/examples/key-bindings.bash",
        b"/usr/share/doc/git/contrib/git\njump/x.pl",
        b"/usr/lib/rpm/rpmrc",
    ],
)
def test_what_only_looks_like_metadata_counts_as_use(path: bytes) -> None:
    assert kind(path) is not Kind.METADATA
    assert metadata_reason(path) is None


@given(PATHS)
def test_only_metadata_has_a_reason(path: bytes) -> None:
    assert (kind(path) is Kind.METADATA) == (metadata_reason(path) is not None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/__pycache__/m.cpython-311.pyc", b"/a/m.py"),
        (b"/a/__pycache__/m.cpython-311.opt-1.pyc", b"/a/m.py"),
        (b"/a/__pycache__/m.pypy39.pyc", b"/a/m.py"),
        (b"/a/__pycache__/tool.v2.cpython-312.pyc", b"/a/tool.v2.py"),
        (b"/a/__pycache__/m.cpython-311-pytest-8.3.4.pyc", b"/a/m.py"),
        (b"/a/__pycache__/m.v2.pypy39-pytest-7.4.0.pyc", b"/a/m.v2.py"),
        (b"/a/m.pyc", b"/a/m.pyc"),
        (b"/a/__pycache__/m.py", b"/a/__pycache__/m.py"),
        (b"/a/x__pycache__/m.cpython-311.pyc", b"/a/x__pycache__/m.cpython-311.pyc"),
    ],
)
def test_owner_path(path: bytes, expected: bytes) -> None:
    assert owner_path(path) == expected


@given(PATHS)
def test_owner_path_is_idempotent(path: bytes) -> None:
    assert owner_path(owner_path(path)) == owner_path(path)


@given(
    PATHS, NAMES.filter(lambda name: b"." not in name), st.sampled_from(["", ".opt-1", ".opt-2"])
)
def test_bytecode_and_its_source_have_one_owner(folder: bytes, name: bytes, level: str) -> None:
    bytecode = folder + b"/__pycache__/" + name + b".cpython-311" + level.encode() + b".pyc"
    assert owner_path(bytecode) == owner_path(folder + b"/" + name + b".py")
