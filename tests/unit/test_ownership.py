"""Which files belong to which package, ecosystem by ecosystem."""

from collections.abc import Iterable

import pytest

from vexstream import dpkg
from vexstream.claims import CLAIMANTS, Image, as_syft_writes
from vexstream.ownership import NO_FILES, ONLY_METADATA, assign
from vexstream.rootfs import Entry, EntryKind, RootFs
from vexstream.sbom import Artifact
from vexstream.scan import Package

FOREIGN = "caf\N{REPLACEMENT CHARACTER}"
SITE = "/v/lib/python3.11/site-packages"


def image(
    *files: bytes,
    links: dict[bytes, bytes] | None = None,
    hard: dict[bytes, bytes] | None = None,
    contents: dict[bytes, bytes] | None = None,
) -> Image:
    root = RootFs()
    root.apply(Entry(path, EntryKind.FILE) for path in files)
    root.apply(Entry(path, EntryKind.SYMLINK, to) for path, to in (links or {}).items())
    root.apply(Entry(path, EntryKind.HARDLINK, to) for path, to in (hard or {}).items())
    return Image(root, dpkg.database(contents or {}))


_METADATA = {"deb": "dpkg-db-entry", "apk": "apk-db-entry", "rpm": "rpm-db-entry",
             "python": "python-package", "npm": "javascript-npm-package",
             "java-archive": "java-archive", "go-module": "go-module-buildinfo-entry",
             "gem": "ruby-gemspec", "php-composer": "php-composer-installed-entry",
             "binary": "binary-signature"}  # fmt: skip


def artifact(
    package_type: str,
    name: str,
    *,
    files: Iterable[str] = (),
    at: Iterable[str] = (),
    top: Iterable[str] = (),
    metadata: str | None = None,
) -> Artifact:
    return Artifact(
        id=f"{package_type}:{name}", name=name, version="1", type=package_type, purl="",
        metadata_type=_METADATA.get(package_type, "") if metadata is None else metadata,
        locations=tuple(at), files=tuple(files),
        site_packages=SITE if package_type == "python" else "",
        top_level=tuple(top), architecture="amd64",
    )  # fmt: skip


def one(found: Artifact, place: Image) -> Package:
    [package] = assign([found], place)
    return package


def deb(name: str, *files: str) -> Artifact:
    return artifact("deb", name, files=files, at=(f"/var/lib/dpkg/info/{name}.md5sums",))


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


def test_python_record_scripts_and_bytecode() -> None:
    site = SITE.encode()
    place = image(site + b"/flask/app.py", b"v/bin/flask", site + b"/flask-2.dist-info/METADATA")
    record = ("../../../bin/flask", "flask/app.py", "flask-2.dist-info/METADATA",
              "flask/__pycache__/app.cpython-311.pyc", "flask/gone.py")  # fmt: skip
    found = one(artifact("python", "flask", files=record), place)
    assert found.files == (b"/v/bin/flask", site + b"/flask-2.dist-info/METADATA",
                           site + b"/flask/app.py")  # fmt: skip
    assert found.unobservable is None


def test_python_bytecode_without_source_is_owned_under_the_source() -> None:
    site = SITE.encode()
    place = image(site + b"/m/__pycache__/a.cpython-311.pyc")
    found = one(artifact("python", "m", files=("m/__pycache__/a.cpython-311.pyc",)), place)
    assert found.files == (site + b"/m/a.py",)


def test_python_without_record_owns_what_top_level_names() -> None:
    site = SITE.encode()
    place = image(site + b"/pkg/sub/a.py", site + b"/six.py", site + b"/_c.cpython-311.so",
                  site + b"/_cother.py")  # fmt: skip
    found = one(artifact("python", "x", top=("pkg", "six", "_c")), place)
    assert found.files == (site + b"/_c.cpython-311.so", site + b"/pkg/sub/a.py", site + b"/six.py")
    assert found.unobservable is None


@pytest.mark.parametrize("top", [(), ("pkg", "gone")])
def test_python_with_modules_that_cannot_be_found_is_not_observable(top: tuple[str, ...]) -> None:
    found = one(artifact("python", "x", top=top), image(SITE.encode() + b"/pkg/a.py"))
    assert found.unobservable is not None


def test_an_editable_installation_is_not_observable() -> None:
    site = SITE.encode()
    record = ("__editable__.x-1.pth", "__editable___x_finder.py")
    place = image(*(site + b"/" + name.encode() for name in record))
    found = one(artifact("python", "x", files=record), place)
    assert found.unobservable is not None


def test_a_python_package_from_a_deb_owns_the_debs_files_too() -> None:
    """Debian strips RECORD, and its scripts are not where RECORD says."""
    site = SITE.encode()
    egg = SITE + "/chardet.egg-info/PKG-INFO"
    place = image(egg.encode(), site + b"/chardet/a.py", b"usr/bin/chardetect")
    system = deb("python3-chardet", egg, SITE + "/chardet/a.py", "/usr/bin/chardetect")
    _, python = assign([system, artifact("python", "chardet", at=(egg,))], place)
    assert b"/usr/bin/chardetect" in python.files
    assert python.unobservable is None


def test_npm_leaves_nested_packages_to_themselves() -> None:
    place = image(b"a/package.json", b"a/lib/i.js", b"a/node_modules/b/package.json",
                  b"a/node_modules/b/i.js")  # fmt: skip
    outer, inner = assign(
        [artifact("npm", "a", at=("/a/package.json",)),
         artifact("npm", "b", at=("/a/node_modules/b/package.json",))], place,
    )  # fmt: skip
    assert outer.files == (b"/a/lib/i.js", b"/a/package.json")
    assert inner.files == (b"/a/node_modules/b/i.js", b"/a/node_modules/b/package.json")


def test_npm_at_the_root_does_not_own_the_image() -> None:
    found = one(artifact("npm", "a", at=("/package.json",)), image(b"package.json", b"bin/sh"))
    assert found.files == ()
    assert found.unobservable is not None


def test_java_owns_its_outer_archive() -> None:
    found = one(artifact("java-archive", "x", at=("/opt/app.jar",)), image(b"opt/app.jar"))
    assert (found.files, found.unobservable) == ((b"/opt/app.jar",), None)


def test_go_owns_the_binary() -> None:
    found = one(artifact("go-module", "stdlib", at=("/bin/app",)), image(b"bin/app"))
    assert (found.files, found.unobservable) == ((b"/bin/app",), None)


@pytest.mark.parametrize(("name", "observable"), [("node", True), ("openssl", False)])
def test_a_recognised_program_is_observable_only_when_it_stands_alone(
    name: str, observable: bool
) -> None:
    found = one(artifact("binary", name, at=("/usr/local/bin/p",)), image(b"usr/local/bin/p"))
    assert found.files == (b"/usr/local/bin/p",)
    assert (found.unobservable is None) is observable


def test_gems_own_their_directory_and_extensions() -> None:
    home = b"g/3.1.0"
    spec = "/g/3.1.0/specifications/nokogiri-1.gemspec"
    place = image(home + b"/gems/nokogiri-1/lib/n.rb", spec.encode(),
                  home + b"/extensions/x86_64-linux/3.1.0/nokogiri-1/n.so",
                  home + b"/gems/rake-1/rake.rb")  # fmt: skip
    found = one(artifact("gem", "nokogiri", at=(spec,)), place)
    assert found.files == (b"/g/3.1.0/extensions/x86_64-linux/3.1.0/nokogiri-1/n.so",
                           b"/g/3.1.0/gems/nokogiri-1/lib/n.rb")  # fmt: skip
    default = artifact("gem", "json", at=("/g/3.1.0/specifications/default/json-2.gemspec",))
    assert one(default, place).unobservable is not None


def test_composer_packages_own_their_directory() -> None:
    place = image(b"app/vendor/a/b/x.php", b"app/vendor/composer/installed.json")
    at = ("/app/vendor/composer/installed.json",)
    assert one(artifact("php-composer", "a/b", at=at), place).files == (b"/app/vendor/a/b/x.php",)
    assert one(artifact("php-composer", "a/gone", at=at), place).unobservable is not None


@pytest.mark.parametrize("package_type", [*CLAIMANTS, "swift"])
def test_what_a_lock_file_declares_is_not_observable(package_type: str) -> None:
    declared = artifact(package_type, "x", at=("/app/x.lock",), metadata="some-lock-entry")
    found = one(declared, image(b"app/x.lock"))
    assert found.files == ()
    assert found.unobservable is not None


def test_unmapped_types_say_so() -> None:
    found = one(artifact("swift", "x"), image())
    assert found.unobservable == "files of swift packages are not mapped yet"
