"""Root file systems in directories of an image: what their package databases name lies there."""

import pytest

from tests.unit.images import artifact, deb, image, one
from vexstream.ownership import assign
from vexstream.sbom import Artifact

SSL = "/usr/lib/libssl.so.3"


def within(package_type: str, database: str, *files: str) -> Artifact:
    return artifact(package_type, f"{package_type}-ssl", files=files, at=(database,))


@pytest.mark.parametrize(
    ("package_type", "database"),
    [
        ("deb", "/srv/r/var/lib/dpkg/info/deb-ssl.md5sums"),
        ("deb", "/srv/r/var/lib/dpkg/status.d/deb-ssl.md5sums"),
        ("apk", "/srv/r/lib/apk/db/installed"),
        ("apk", "/srv/r/usr/lib/apk/db/installed"),
        ("rpm", "/srv/r/var/lib/rpm/rpmdb.sqlite"),
        ("rpm", "/srv/r/usr/lib/sysimage/rpm/rpmdb.sqlite"),
    ],
)
def test_a_package_owns_what_is_below_its_own_root(package_type: str, database: str) -> None:
    place = image(b"usr/lib/libssl.so.3", b"srv/r/usr/lib/libssl.so.3")
    outer = deb("libssl3", SSL)
    inner, other = assign([within(package_type, database, SSL), outer], place)
    assert (inner.files, inner.unobservable) == ((b"/srv/r/usr/lib/libssl.so.3",), None)
    assert (other.files, other.unobservable) == ((b"/usr/lib/libssl.so.3",), None)


def test_the_list_of_another_root_is_not_asked() -> None:
    lists = {b"/var/lib/dpkg/info/deb-ssl.list": SSL.encode()}
    place = image(b"usr/lib/libssl.so.3", b"srv/r/usr/lib/libssl.so.3", contents=lists)
    found = one(within("deb", "/srv/r/var/lib/dpkg/status", SSL), place)
    assert found.files == (b"/srv/r/usr/lib/libssl.so.3",)
    assert found.unobservable == "dpkg has no list of this package's files below /srv/r"


def test_what_leads_out_of_the_root_is_not_its_own() -> None:
    place = image(b"usr/lib/libssl.so.3", b"srv/r/usr/lib/libz.so.1",
                  links={b"srv/r/lib": b"/usr/lib"})  # fmt: skip
    names = ("/lib/libssl.so.3", "/usr/lib/libz.so.1")
    found = one(within("rpm", "/srv/r/var/lib/rpm/rpmdb.sqlite", *names), place)
    assert found.files == (b"/srv/r/usr/lib/libz.so.1",)
    assert found.unobservable is not None


def test_a_database_that_is_reached_by_a_symlink_is_the_images_own() -> None:
    places = ("/opt/state/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite")
    found = artifact("rpm", "ssl", files=(SSL,), at=places)
    assert one(found, image(b"usr/lib/libssl.so.3")).files == (SSL.encode(),)
