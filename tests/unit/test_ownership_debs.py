"""Which files belong to a Debian package."""

import pytest

from tests.unit.images import artifact, deb, image, one
from vexstream import dpkg
from vexstream.imagefiles import as_syft_writes
from vexstream.ownership import assign

FOREIGN = "caf\N{REPLACEMENT CHARACTER}"


def test_a_deb_without_a_whole_list_is_never_observable() -> None:
    """Without md5sums Syft knows the configuration files only."""
    place = image(b"etc/x.conf", b"usr/bin/x")
    found = one(artifact("deb", "x", files=("/etc/x.conf",)), place)
    assert found.files == (b"/etc/x.conf",)
    assert found.unobservable is not None


@pytest.mark.parametrize("name", [b"x.list", b"x:amd64.list"])
def test_dpkgs_own_list_is_the_whole_list(name: bytes) -> None:
    lists = {b"/var/lib/dpkg/info/" + name: b"/.\n/usr\n/usr/bin\n/usr/bin/x\n/usr/bin/caf\xe9\n"}
    place = image(b"usr/bin/x", b"usr/bin/caf\xe9", contents=lists)
    found = one(artifact("deb", "x"), place)
    assert found.files == (b"/usr/bin/caf\xe9", b"/usr/bin/x")
    assert found.unobservable is None


def test_diverted_files_belong_to_those_that_brought_them() -> None:
    contents = {
        b"/var/lib/dpkg/info/coreutils.list": b"/bin/sh\n",
        b"/var/lib/dpkg/info/dash.list": b"/bin/sh\n",
        dpkg.DIVERSIONS: b"/bin/sh\n/bin/sh.distrib\ndash\n",
    }
    place = image(b"bin/sh", b"bin/sh.distrib", contents=contents)
    packages = assign([artifact("deb", "coreutils"), artifact("deb", "dash")], place)
    assert [package.files for package in packages] == [(b"/bin/sh.distrib",), (b"/bin/sh",)]


def test_files_that_installation_scripts_make_belong_to_their_package() -> None:
    bundle = b"etc/ssl/certs/ca-certificates.crt"
    place = image(bundle, b"usr/sbin/update-ca-certificates")
    found = one(deb("ca-certificates", "/usr/sbin/update-ca-certificates"), place)
    assert b"/" + bundle in found.files


@pytest.mark.parametrize(
    ("kind", "path"),
    [("alpm", b"etc/ca-certificates/extracted/tls-ca-bundle.pem"),
     ("rpm", b"var/lib/ca-certificates/ca-bundle.pem")],
)  # fmt: skip
def test_bundles_that_arch_and_suse_make_of_mozillas_certificates(kind: str, path: bytes) -> None:
    files = ["/usr/share/pki/trust/mozilla.p11-kit"]
    place = image(path, files[0][1:].encode())
    metadata = f"{kind}-db-entry"
    found = one(artifact(kind, "ca-certificates-mozilla", files=files, metadata=metadata), place)
    assert b"/" + path in found.files


def test_a_name_that_syft_could_not_spell_is_found_again() -> None:
    """Each byte that is not UTF-8 is one U+FFFD; every name that fits is meant."""
    place = image(b"d\xff/caf\xe9", b"d\xff/caf\xe8", b"d\xff/cafe", links={b"l": b"d\xff"})
    found = one(artifact("apk", "x", files=(f"/d\N{REPLACEMENT CHARACTER}/{FOREIGN}",)), place)
    assert found.files == (b"/d\xff/caf\xe8", b"/d\xff/caf\xe9")
    through = one(artifact("apk", "x", files=(f"/l/{FOREIGN}",)), place)
    assert through.files == found.files


@pytest.mark.parametrize(
    ("name", "written"),
    [(b"caf\xc3\xa9", "caf\u00e9"), (b"caf\xe9", FOREIGN), (b"\xe2\x82", "\ufffd\ufffd"),
     (b"a\xed\xa0\x80b", "a\ufffd\ufffd\ufffdb"), (b"", "")],
)  # fmt: skip
def test_what_syft_writes_for_a_name(name: bytes, written: str) -> None:
    assert as_syft_writes(name) == written


def test_a_diversion_that_moved_nothing_leaves_the_file_with_its_package() -> None:
    contents = {
        b"/var/lib/dpkg/info/curl.list": b"/bin/curl\n",
        dpkg.DIVERSIONS: b"/bin/curl\n/bin/curl.real\n:\n",
    }
    assert one(artifact("deb", "curl"), image(b"bin/curl", contents=contents)).files == (
        b"/bin/curl",
    )
