"""Which files belong to which package, whatever installed it."""

import pytest

from tests.unit.images import deb, image, one
from vexstream.ownership import NO_FILES, ONLY_METADATA, assign


def test_directory_symlinks_are_resolved() -> None:
    place = image(b"usr/lib/libc.so.6", links={b"lib": b"usr/lib"})
    assert one(deb("libc6", "/lib/libc.so.6"), place).files == (b"/usr/lib/libc.so.6",)


def test_a_symlink_to_the_file_of_another_package_is_not_ownership() -> None:
    place = image(b"lib/x.so.1", b"include/x.h", links={b"lib/x.so": b"x.so.1"})
    library, headers = assign(
        [deb("x1", "/lib/x.so.1"), deb("x-dev", "/lib/x.so", "/include/x.h")], place
    )
    assert library.files == (b"/lib/x.so.1",)
    assert headers.files == (b"/include/x.h",)


def test_a_symlink_to_a_file_that_nobody_owns_is_ownership() -> None:
    place = image(b"var/made", links={b"etc/conf": b"../var/made"})
    assert one(deb("maker", "/etc/conf"), place).files == (b"/var/made",)


def test_a_file_with_two_owners_belongs_to_both() -> None:
    packages = assign([deb("a", "/x"), deb("b", "/x")], image(b"x"))
    assert [package.files for package in packages] == [(b"/x",), (b"/x",)]


def test_an_unclaimed_hard_link_belongs_to_the_owner_of_the_file() -> None:
    place = image(b"bin/perl", hard={b"bin/perl5": b"bin/perl"})
    assert one(deb("perl", "/bin/perl"), place).files == (b"/bin/perl", b"/bin/perl5")


@pytest.mark.parametrize(
    ("files", "reason"),
    [((), NO_FILES), ((b"usr/share/doc/x/README",), ONLY_METADATA), ((b"bin/x",), None)],
)
def test_a_package_is_observable_by_files_that_count_as_use(
    files: tuple[bytes, ...], reason: str | None
) -> None:
    claimed = ("/usr/share/doc/x/README", "/bin/x")
    assert one(deb("x", *claimed), image(*files)).unobservable == reason
