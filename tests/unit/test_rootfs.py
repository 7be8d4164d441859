"""Layers on one another, and where a path really leads."""

import ctypes
import errno
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexstream.rootfs import Entry, EntryKind, RootFs, RootFsError


def file(path: bytes) -> Entry:
    return Entry(path, EntryKind.FILE)


def folder(path: bytes) -> Entry:
    return Entry(path, EntryKind.DIRECTORY)


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, EntryKind.SYMLINK, target)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path, EntryKind.HARDLINK, target)


def tree(*layers: list[Entry]) -> RootFs:
    root = RootFs()
    for layer in layers:
        root.apply(layer)
    return root


def files(root: RootFs) -> list[bytes]:
    return sorted(root.files_under(b"/"))


def test_a_layer_goes_through_its_own_symlinks() -> None:
    root = tree([file(b"usr/lib/a"), link(b"lib", b"usr/lib"), file(b"lib/b")])
    assert files(root) == [b"/usr/lib/a", b"/usr/lib/b"]
    assert root.realpath(b"/lib/a") == b"/usr/lib/a"


@pytest.mark.parametrize("name", [b"b", b".wh.a", b".wh..wh..opq"])
def test_a_symlink_of_a_lower_layer_becomes_a_directory(name: bytes) -> None:
    """tests/integration/test_scanner_overlay.py asks containerd."""
    root = tree([file(b"usr/lib/a"), link(b"lib", b"usr/lib")], [file(b"lib/" + name)])
    assert root.realpath(b"/lib") == b"/lib"
    assert files(root) == ([b"/lib/b"] if name == b"b" else []) + [b"/usr/lib/a"]


def test_a_directory_entry_replaces_a_symlink_and_is_merged_with_a_directory() -> None:
    root = tree(
        [file(b"usr/lib/a"), link(b"lib", b"usr/lib")], [folder(b"lib"), folder(b"usr/lib")]
    )
    assert root.realpath(b"/lib") == b"/lib"
    assert files(root) == [b"/usr/lib/a"]


def test_a_whiteout_removes_one_name() -> None:
    root = tree([file(b"d/a"), file(b"d/b"), file(b"e/c")], [file(b"d/.wh.a"), file(b".wh.e")])
    assert files(root) == [b"/d/b"]


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_whiteout_spares_its_own_layer_wherever_it_stands(first: bool) -> None:
    opaque, new = file(b"d/.wh..wh..opq"), file(b"d/sub/new")
    root = tree([file(b"d/old"), file(b"d/sub/old")], [opaque, new] if first else [new, opaque])
    assert files(root) == [b"/d/sub/new"]


def test_a_whiteout_of_a_symlink_spares_what_it_leads_to() -> None:
    root = tree([file(b"usr/lib/a"), link(b"lib", b"usr/lib")], [file(b".wh.lib")])
    assert root.realpath(b"/lib") is None
    assert files(root) == [b"/usr/lib/a"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"../../etc/x", b"/etc/x"), (b"/etc/x", b"/etc/x"), (b"./etc//x", b"/etc/x"),
     (b"a/../../etc/x", b"/etc/x")],
)  # fmt: skip
def test_names_cannot_leave_the_root(path: bytes, expected: bytes) -> None:
    assert files(tree([file(path)])) == [expected]


def test_links_cannot_leave_the_root() -> None:
    root = tree([file(b"etc/x"), link(b"a/up", b"../../../etc/x"), link(b"a/b/abs", b"/etc/x")])
    assert root.realpath(b"/a/up") == b"/etc/x"
    assert root.realpath(b"/a/b/abs") == b"/etc/x"
    assert root.realpath(b"/../../etc/x") == b"/etc/x"


def test_an_entry_goes_through_an_absolute_symlink_below_the_root() -> None:
    root = tree([folder(b"usr/lib"), link(b"opt/lib", b"/usr/lib"), file(b"opt/lib/x")])
    assert files(root) == [b"/usr/lib/x"]


def test_circles_lead_nowhere() -> None:
    root = tree([link(b"a", b"b"), link(b"b", b"a"), link(b"self", b"self")])
    assert root.realpath(b"/a") is None
    assert root.file_at(b"/self") is None
    with pytest.raises(RootFsError, match="loop"):
        tree([link(b"a", b"b"), link(b"b", b"a"), file(b"a/x")])


@pytest.mark.parametrize(("links", "reached"), [(40, True), (41, False)])
def test_as_many_links_as_the_kernel_follows(links: int, reached: bool) -> None:
    chain = [link(b"l%d" % n, b"l%d" % (n + 1)) for n in range(links)]
    root = tree([*chain, file(b"l%d" % links)])
    assert root.is_file(b"/l0") is reached


def test_hard_links_of_one_file_stand_together() -> None:
    root = tree([file(b"a"), hard(b"b", b"a"), hard(b"d/c", b"/b"), file(b"other")])
    assert [sorted(names) for names in root.hard_links()] == [[b"/a", b"/b", b"/d/c"]]
    assert root.is_file(b"/d/c")
    root.apply([file(b"a"), file(b".wh.b")])
    assert root.hard_links() == []


def test_a_file_reached_by_a_symlink_says_so() -> None:
    root = tree([file(b"lib/x.so.1"), link(b"lib/x.so", b"x.so.1"), link(b"l", b"lib")])
    direct, by_name, by_folder = (
        root.file_at(b"/lib/x.so.1"), root.file_at(b"/lib/x.so"), root.file_at(b"/l/x.so.1"),
    )  # fmt: skip
    assert direct is not None
    assert by_name is not None
    assert by_folder is not None
    assert [direct.by_symlink, by_name.by_symlink, by_folder.by_symlink] == [False, True, False]
    assert {direct.path, by_name.path, by_folder.path} == {b"/lib/x.so.1"}


def test_what_is_no_regular_file_is_none() -> None:
    root = tree([Entry(b"dev/null", EntryKind.OTHER), folder(b"d"), link(b"gone", b"nowhere")])
    for path in (b"/dev/null", b"/d", b"/gone", b"/dev/null/x", b"/"):
        assert not root.is_file(path)


def test_files_under_leaves_out_directories_and_names_links_when_asked() -> None:
    root = tree([file(b"p/a"), file(b"p/q/b"), file(b"p/sub/q/c"), link(b"p/l", b"sub")])
    assert sorted(root.files_under(b"/p", {b"/p/q"})) == [b"/p/a", b"/p/sub/q/c"]
    assert sorted(root.files_under(b"/p/sub", links=True)) == [b"/p/sub/q/c"]
    assert b"/p/l" in set(root.files_under(b"/p", links=True))


NAME = st.sampled_from([b"a", b"b", b"c"])
PATH = st.lists(NAME, min_size=1, max_size=3).map(b"/".join)
STEP = st.sampled_from([b"a", b"b", b"c", b"..", b".", b""])
# A path that ends in "/" or "." asks the kernel for a directory; no package claims such a path.
WALK = st.tuples(st.lists(STEP, max_size=4), NAME | st.just(b"..")).map(
    lambda made: b"/".join([*made[0], made[1]])
)
TARGET = st.tuples(st.sampled_from([b"", b"/"]), WALK).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PATH, st.none() | TARGET), max_size=8), WALK)
def test_it_resolves_as_the_kernel_does(
    made: list[tuple[bytes, bytes | None]], asked: bytes
) -> None:
    with tempfile.TemporaryDirectory() as work:
        base = os.path.realpath(work).encode()
        entries = []
        for path, target in made:
            real = base + b"/" + path
            try:
                os.makedirs(os.path.dirname(real), exist_ok=True)
                if os.path.realpath(os.path.dirname(real)) != os.path.dirname(real):
                    continue  # on disk this would leave the root
                if target is None:
                    os.close(os.open(real, os.O_CREAT | os.O_EXCL))
                else:
                    os.symlink(target, real)
            except OSError:
                continue
            entries.append(file(path) if target is None else link(path, target))
        root = tree([folder(path) for path in _folders(base)], entries)
        for path in [asked, *(entry.path for entry in entries)]:
            assert root.realpath(b"/" + path) == _kernel(base, b"/" + path)


def _folders(base: bytes) -> list[bytes]:
    return [
        os.path.join(parent, name)[len(base) :]
        for parent, names, _ in os.walk(base)
        for name in names
        if not os.path.islink(os.path.join(parent, name))
    ]


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10


def _kernel(base: bytes, path: bytes) -> bytes | None:
    """Where the kernel gets to when ``base`` is the root (openat2 with RESOLVE_IN_ROOT)."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    root = os.open(base, os.O_PATH | os.O_DIRECTORY)
    try:
        opened = libc.syscall(_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
        if opened < 0:
            if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
                pytest.skip("the kernel has no openat2, or a sandbox forbids it")
            return None
        try:
            return os.readlink(b"/proc/self/fd/%d" % opened)[len(base) :] or b"/"
        finally:
            os.close(opened)
    finally:
        os.close(root)
