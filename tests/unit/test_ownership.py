"""Which files belong to which package, ecosystem by ecosystem."""

import json
from collections.abc import Iterable

import pytest

from vexstream import dpkg
from vexstream.claims import CLAIMANTS
from vexstream.imagefiles import Image, as_syft_writes
from vexstream.ownership import NO_CODE, NO_FILES, ONLY_METADATA, assign
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
    alike: dict[bytes, int] | None = None,
    bundles: frozenset[bytes] = frozenset(),
) -> Image:
    """``alike`` are files by path, with a number for their content."""
    root = RootFs()
    root.apply(Entry(path, EntryKind.FILE) for path in files)
    root.apply(Entry(path, EntryKind.FILE, content=same) for path, same in (alike or {}).items())
    root.apply(Entry(path, EntryKind.SYMLINK, to) for path, to in (links or {}).items())
    root.apply(Entry(path, EntryKind.HARDLINK, to) for path, to in (hard or {}).items())
    return Image(root, contents, bundles)


_METADATA = {"deb": "dpkg-db-entry", "apk": "apk-db-entry", "rpm": "rpm-db-entry",
             "python": "python-package", "npm": "javascript-npm-package",
             "java-archive": "java-archive", "go-module": "go-module-buildinfo-entry",
             "gem": "ruby-gemspec", "php-composer": "php-composer-installed-entry",
             "binary": "binary-signature", "dotnet": "dotnet-deps-entry"}  # fmt: skip


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


def test_a_diversion_that_moved_nothing_leaves_the_file_with_its_package() -> None:
    contents = {
        b"/var/lib/dpkg/info/curl.list": b"/bin/curl\n",
        dpkg.DIVERSIONS: b"/bin/curl\n/bin/curl.real\n:\n",
    }
    assert one(artifact("deb", "curl"), image(b"bin/curl", contents=contents)).files == (
        b"/bin/curl",
    )


def test_files_that_installation_scripts_make_belong_to_their_package() -> None:
    bundle = b"etc/ssl/certs/ca-certificates.crt"
    place = image(bundle, b"usr/sbin/update-ca-certificates")
    found = one(deb("ca-certificates", "/usr/sbin/update-ca-certificates"), place)
    assert b"/" + bundle in found.files


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


@pytest.mark.parametrize(
    ("content", "observable"),
    [(b"/src\n", False), (b"# remark\n\n../src\n", False), (b"import x; x.y('/src')\n", True),
     (b"", True)],
)  # fmt: skip
def test_a_path_file_that_names_a_directory_makes_it_editable(
    content: bytes, observable: bool
) -> None:
    pointer = SITE.encode() + b"/x.pth"
    place = image(pointer, SITE.encode() + b"/x.py", contents={pointer: content})
    found = one(artifact("python", "x", files=("x.pth", "x.py")), place)
    assert (found.unobservable is None) is observable


def test_bytecode_in_the_place_of_a_removed_source_is_owned() -> None:
    place = image(SITE.encode() + b"/m/a.pyc")
    found = one(artifact("python", "m", files=("m/a.py",)), place)
    assert (found.files, found.unobservable) == ((SITE.encode() + b"/m/a.pyc",), None)


def test_bytecode_in_a_tree_of_its_own_belongs_to_the_owner_of_the_source() -> None:
    site = SITE.encode()
    tree = b"/cache" + site + b"/m/a.cpython-311.opt-2.pyc"
    place = image(site + b"/m/a.py", tree, b"/cache/other/a.cpython-311.pyc")
    assert one(artifact("python", "m", files=("m/a.py",)), place).files == (tree, site + b"/m/a.py")


def test_a_package_without_any_of_its_code_is_not_observable() -> None:
    """Compiled into a program, bundled, or moved: what is left does not show its use."""
    place = image(SITE.encode() + b"/m/data.json")
    found = one(artifact("python", "m", files=("m/a.py", "m/data.json")), place)
    assert found.unobservable == NO_CODE


def test_python_record_that_has_hard_links_is_relative_to_each_of_them() -> None:
    cached, site = b"cache/x", SITE.encode()
    place = image(
        cached + b"/m/a.py", cached + b"/m-1.dist-info/METADATA", site + b"/m/b.py",
        hard={site + b"/m-1.dist-info/METADATA": cached + b"/m-1.dist-info/METADATA"},
    )  # fmt: skip
    at = ("/cache/x/m-1.dist-info/METADATA",)
    found = one(artifact("python", "m", files=("m/a.py", "m/b.py"), at=at), place)
    assert {site + b"/m/b.py", b"/cache/x/m/a.py"} <= set(found.files)


def test_a_language_package_owns_what_its_symlinks_lead_to() -> None:
    place = image(b"cache/a.py", links={SITE.encode() + b"/m/a.py": b"/cache/a.py"})
    cached, linked = assign(
        [artifact("apk", "c", files=("/cache/a.py",)), artifact("python", "m", files=("m/a.py",))],
        place,
    )
    assert cached.files == linked.files == (b"/cache/a.py",)


def test_a_python_package_from_a_deb_owns_the_debs_files_too() -> None:
    """Debian strips RECORD, and its scripts are not where RECORD says."""
    site = SITE.encode()
    egg = SITE + "/chardet.egg-info/PKG-INFO"
    place = image(egg.encode(), site + b"/chardet/a.py", b"usr/bin/chardetect")
    system = deb("python3-chardet", egg, SITE + "/chardet/a.py", "/usr/bin/chardetect")
    _, python = assign([system, artifact("python", "chardet", at=(egg,))], place)
    assert b"/usr/bin/chardetect" in python.files
    assert python.unobservable is None


def test_language_packages_of_one_deb_keep_their_own_files_to_themselves() -> None:
    """Only one without code of its own has what is left of the deb's files."""
    names = ("js/a/package.json", "js/a/i.js", "js/b/package.json", "js/c/package.json",
             "js/c/i.js", "js/c.js", "js/shared.js")  # fmt: skip
    system = deb("node-a", *(f"/{name}" for name in names))
    place = image(*(name.encode() for name in names))
    packages = [artifact("npm", name, at=(f"/js/{name}/package.json",)) for name in "abc"]
    _, a, b, c = assign([system, *packages], place)
    assert a.files == (b"/js/a/i.js", b"/js/a/package.json")
    assert set(b.files) >= {b"/js/b/package.json", b"/js/shared.js"}
    assert c.files == (b"/js/c.js", b"/js/c/i.js", b"/js/c/package.json")  # Node takes c.js first


def test_a_gem_that_came_with_ruby_is_not_in_use_with_ruby() -> None:
    gems, spec = "/usr/lib/ruby/gems/3.1.0", "/usr/lib/ruby/gems/3.1.0/specifications/{}-1.gemspec"
    library = "/usr/lib/libruby.so.3.1"
    names = (f"{gems}/gems/rake-1/lib/rake.rb", f"{gems}/gems/bare-1/README", spec.format("rake"),
             spec.format("bare"), library)  # fmt: skip
    ruby, rake, bare = assign(
        [deb("libruby3.1", *names), artifact("gem", "rake", at=(spec.format("rake"),)),
         artifact("gem", "bare", at=(spec.format("bare"),))],
        image(*(name[1:].encode() for name in names)),
    )  # fmt: skip
    assert library.encode() in ruby.files
    assert rake.files == (names[0].encode(),)
    assert library.encode() in bare.files  # its code is elsewhere


def test_npm_leaves_nested_packages_to_themselves() -> None:
    place = image(b"a/package.json", b"a/lib/i.js", b"a/node_modules/b/package.json",
                  b"a/node_modules/b/i.js")  # fmt: skip
    outer, inner = assign(
        [artifact("npm", "a", at=("/a/package.json",)),
         artifact("npm", "b", at=("/a/node_modules/b/package.json",))], place,
    )  # fmt: skip
    assert outer.files == (b"/a/lib/i.js", b"/a/package.json")
    assert inner.files == (b"/a/node_modules/b/i.js", b"/a/node_modules/b/package.json")


def test_npm_owns_what_lies_in_its_node_modules_without_being_a_package() -> None:
    place = image(b"n/node_modules/a/package.json", b"n/node_modules/a/node_modules/own/i.js")
    found = one(artifact("npm", "a", at=("/n/node_modules/a/package.json",)), place)
    assert b"/n/node_modules/a/node_modules/own/i.js" in found.files


def test_npm_known_by_its_place_in_a_store_owns_the_hard_links_and_their_neighbours() -> None:
    home = b"n/node_modules/a"
    place = image(b"store/1", home + b"/copied.js", hard={home + b"/package.json": b"store/1"})
    found = one(artifact("npm", "a", at=("/store/1",)), place)
    assert found.files == (b"/n/node_modules/a/copied.js", b"/n/node_modules/a/package.json",
                           b"/store/1")  # fmt: skip
    assert found.unobservable is None


@pytest.mark.parametrize(
    ("target", "observable"),
    [(b"/elsewhere", False), (b"lib", True), (b"/n/node_modules/b", True), (b"gone", True)],
)
def test_npm_with_a_directory_elsewhere_is_not_observable(target: bytes, observable: bool) -> None:
    home = b"n/node_modules/a"
    place = image(home + b"/package.json", home + b"/lib/i.js", b"elsewhere/i.js",
                  b"n/node_modules/b/i.js", links={home + b"/l": target})  # fmt: skip
    found = one(artifact("npm", "a", at=(f"/{home.decode()}/package.json",)), place)
    assert (found.unobservable is None) is observable


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


def test_a_default_gem_owns_what_its_gemspec_names_among_rubys_files() -> None:
    spec = "/usr/lib/ruby/gems/3.1.0/specifications/default/json-2.gemspec"
    place = image(spec.encode(), b"usr/lib/ruby/3.1.0/json/add.rb", b"usr/lib/ruby/3.1.0/set.rb")
    ruby = deb("libruby", spec, "/usr/lib/ruby/3.1.0/json/add.rb", "/usr/lib/ruby/3.1.0/set.rb")
    gem = artifact("gem", "json", at=(spec,), files=("lib/json/add.rb", "ext/x.c"))
    _, json = assign([ruby, gem], place)
    assert json.files == (b"/usr/lib/ruby/3.1.0/json/add.rb",)
    assert json.unobservable is not None


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


def test_a_copy_of_a_packages_code_belongs_to_it_too() -> None:
    place = image(alike={b"usr/lib/libssl.so.3": 1, b"app/libssl.so.3": 1, b"app/ssl.dat": 1})
    assert one(deb("libssl3", "/usr/lib/libssl.so.3"), place).files == (
        b"/app/libssl.so.3", b"/app/ssl.dat", b"/usr/lib/libssl.so.3"
    )  # fmt: skip


def test_a_copy_of_data_is_not_use_of_the_package_unless_it_can_be_executed() -> None:
    place = image(alike={b"usr/share/x/LICENSE": 1, b"app/LICENSE": 1})
    assert one(deb("x", "/usr/share/x/LICENSE"), place).files == (b"/usr/share/x/LICENSE",)
    root = RootFs()
    for path in (b"usr/lib/git-core/git-remote", b"app/remote"):
        root.apply([Entry(path, EntryKind.FILE, content=1, program=True)])
    found = one(deb("git", "/usr/lib/git-core/git-remote"), Image(root))
    assert b"/app/remote" in found.files


def test_vendored_code_belongs_to_both_but_not_to_another_version_of_its_owner() -> None:
    at = "/srv/node_modules/{}/package.json"
    place = image(
        b"srv/node_modules/a/package.json", b"srv/node_modules/b/package.json",
        b"srv/node_modules/b/node_modules/a/package.json",
        alike={b"srv/node_modules/a/index.js": 1, b"srv/node_modules/b/vendor/a.js": 1,
               b"srv/node_modules/b/node_modules/a/index.js": 1},
    )  # fmt: skip
    first, vendoring, second = assign(
        [artifact("npm", "a", at=(at.format("a"),)), artifact("npm", "b", at=(at.format("b"),)),
         artifact("npm", "a", at=(at.format("b/node_modules/a"),))], place,
    )  # fmt: skip
    assert b"/srv/node_modules/b/vendor/a.js" in vendoring.files
    assert b"/srv/node_modules/b/vendor/a.js" in first.files
    assert b"/srv/node_modules/b/node_modules/a/index.js" not in first.files
    assert b"/srv/node_modules/b/node_modules/a/index.js" in second.files


def test_use_of_a_package_is_no_use_of_one_that_vendored_it() -> None:
    names = {"idna": "idna/core.py", "pip": "pip/_vendor/idna/core.py", "other": "other/idna_.py"}
    paths = {name: f"{SITE}/{file}".encode() for name, file in names.items()}
    records = {name: f"v/lib/python3.11/site-packages/{name}.dist-info/RECORD" for name in names}
    place = image(
        *(record.encode() for record in records.values()),
        alike={path[1:]: 1 for path in paths.values()},
    )
    idna, pip, other = assign(
        [artifact("python", name, files=(names[name],), at=(f"/{records[name]}",))
         for name in names], place,
    )  # fmt: skip
    assert paths["pip"] in idna.files
    assert paths["idna"] not in pip.files
    assert paths["idna"] in other.files  # whose copy it is cannot be told


def test_the_original_does_not_belong_to_those_that_vendor_it() -> None:
    site = SITE[1:].encode()
    original, vendored = site + b"/idna/core.py", site + b"/pip/_vendor/idna/core.py"
    again = site + b"/setuptools/_vendor/idna/core.py"
    place = image(alike=dict.fromkeys((original, vendored, again), 1))
    idna, pip, setuptools = assign(
        [artifact("python", "idna", files=("idna/core.py",)),
         artifact("python", "pip", files=("pip/_vendor/idna/core.py",)),
         artifact("python", "setuptools", files=("setuptools/_vendor/idna/core.py",))], place,
    )  # fmt: skip
    assert set(idna.files) == {b"/" + original, b"/" + vendored, b"/" + again}
    assert pip.files == (b"/" + vendored,)
    library = b"usr/lib/python3.11/tomllib/_re.py"
    vendored = site + b"/pip/_vendor/tomli/_re.py"
    python, pip = assign(
        [deb("libpython3.11-stdlib", f"/{library.decode()}"),
         artifact("python", "pip", files=("pip/_vendor/tomli/_re.py",))],
        image(alike={library: 1, vendored: 1}),
    )  # fmt: skip
    assert pip.files == (b"/" + vendored,)
    assert set(python.files) == {b"/" + library, b"/" + vendored}
    assert setuptools.files == (b"/" + again,)


@pytest.mark.parametrize("second", [b"usr/bin/.wh.tool", b"usr/.wh.bin", b"usr/.wh..wh..opq"])
def test_what_a_later_layer_moved_still_belongs_to_its_package(second: bytes) -> None:
    root = RootFs()
    root.apply([Entry(b"bin", EntryKind.SYMLINK, b"usr/bin"),
                Entry(b"usr/bin/tool", EntryKind.FILE, content=1),
                Entry(b"etc/tool.conf", EntryKind.FILE)])  # fmt: skip
    root.apply([Entry(second, EntryKind.FILE), Entry(b"opt/renamed", EntryKind.FILE, content=1)])
    found = one(deb("tool", "/bin/tool", "/etc/tool.conf"), Image(root))
    assert b"/opt/renamed" in found.files


def test_a_program_that_was_moved_and_replaced_by_a_script_belongs_to_its_package() -> None:
    root = RootFs()
    root.apply([Entry(b"usr/bin/tool", EntryKind.FILE, content=1)])
    root.apply([Entry(b"usr/bin/tool", EntryKind.FILE, content=2),
                Entry(b"usr/bin/tool.real", EntryKind.FILE, content=1)])  # fmt: skip
    assert one(deb("tool", "/usr/bin/tool"), Image(root)).files == (
        b"/usr/bin/tool", b"/usr/bin/tool.real"
    )  # fmt: skip


def test_a_program_moved_before_the_image_was_made_is_known_by_its_name() -> None:
    place = image(b"app/lib/libx.so.1", b"usr/bin/xtool", b"app/b.py", links={b"lib": b"usr/lib"})
    found = one(deb("x", "/lib/libx.so.1", "/usr/bin/xtool", "/lib/x/b.py"), place)
    assert found.files == (b"/app/lib/libx.so.1", b"/usr/bin/xtool")


def test_phps_cache_of_compiled_files_belongs_to_the_owner_of_the_source() -> None:
    cached = b"/cache/0123456789abcdef/srv/vendor/acme/zeta/src/A.php.bin"
    place = image(b"srv/vendor/composer/installed.json", b"srv/vendor/acme/zeta/src/A.php", cached)
    at = ("/srv/vendor/composer/installed.json",)
    assert cached in one(artifact("php-composer", "acme/zeta", at=at), place).files


@pytest.mark.parametrize(
    ("bundle", "observable"),
    [(b"srv/app/dist/main.js", False), (b"opt/yarn/lib/cli.js", True),
     (b"usr/share/nodejs/x/dist/x.js", True), (b"srv/other/main.js", True)],
)  # fmt: skip
def test_npm_packages_beside_a_bundle_may_run_from_it(bundle: bytes, observable: bool) -> None:
    """Not those of another application, and not where a package brought the bundle."""
    ms = "/srv/app/node_modules/ms/"
    place = image(ms.encode() + b"package.json", ms.encode() + b"index.js", b"srv/app/package.json",
                  bundle, bundles=frozenset({b"/" + bundle}))  # fmt: skip
    found = assign([artifact("npm", "ms", at=(ms + "package.json",)),
                    artifact("npm", "app", at=("/srv/app/package.json",)),
                    deb("node-x", "/usr/share/nodejs/x/dist/x.js")], place)  # fmt: skip
    assert (found[0].unobservable is None) == observable
    assert found[0].unobservable is None or "/srv/app/dist/main.js" in found[0].unobservable
    assert found[2].unobservable != found[0].unobservable or observable


@pytest.mark.parametrize(
    ("archive", "observable"),
    [(b"srv/app.jsa", False), (b"srv/app.aot", False), (b"opt/.scc/C290M4F1A64P_x_G41L00", False),
     (b"opt/jdk/lib/server/classes.jsa", True), (b"opt/jdk/lib/server/classes_nocoops.jsa", True)],
)  # fmt: skip
def test_java_may_run_from_an_archive_of_shared_classes(archive: bytes, observable: bool) -> None:
    found = one(artifact("java-archive", "x", at=("/srv/x.jar",)), image(b"srv/x.jar", archive))
    assert (found.unobservable is None) == observable


@pytest.mark.parametrize(
    ("package_type", "name", "at", "home"),
    [("php-composer", "acme/zeta", "/srv/vendor/composer/installed.json", b"srv/vendor/acme/zeta"),
     ("gem", "rack", "/g/specifications/rack-1.gemspec", b"g/gems/rack-1")],
)  # fmt: skip
def test_a_directory_of_a_package_that_lies_elsewhere_makes_it_unobservable(
    package_type: str, name: str, at: str, home: bytes
) -> None:
    place = image(
        at.encode(), home + b"/a.rb", b"opt/src/b.rb", links={home + b"/src": b"/opt/src"}
    )
    found = one(artifact(package_type, name, at=(at,)), place)
    assert found.unobservable == "a directory of it is a symlink to somewhere else"


_ASSETS = {
    "runtime": {"lib/net6.0/Json.dll": {}},
    "resources": {"lib/net6.0/de/Json.resources.dll": {"locale": "de"}},
    "native": {"runtimes/linux-x64/native/libjson.so": {}},
    "runtimeTargets": {"runtimes/win/lib/net6.0/Json.Win.dll": {"rid": "win"}},
}


def deps(targets: object) -> dict[bytes, bytes]:
    return {b"/srv/app.deps.json": json.dumps({"targets": targets}).encode()}


def test_nuget_packages_own_what_the_list_of_assemblies_names() -> None:
    there = [b"srv/Json.dll", b"srv/de/Json.resources.dll", b"srv/libjson.so",
             b"srv/runtimes/win/lib/net6.0/Json.Win.dll"]  # fmt: skip
    listed = deps({".NETCoreApp,Version=v6.0": {"json/1": _ASSETS, "other/1": {}}})
    place = image(*there, b"srv/Other.dll", b"srv/app.deps.json", contents=listed)
    found = one(artifact("dotnet", "json", at=("/srv/app.deps.json",)), place)
    assert set(found.files) == {b"/" + path for path in there}
    assert found.unobservable is None


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (deps({"x": {"json/1": {"compile": {"lib/Json.dll": {}}}}}), "lists no assembly of it"),
        (deps({"x": {"json/2": _ASSETS}}), "lists no assembly of it"),
        (deps([1]), "lists no assembly of it"),
        ({b"/srv/app.deps.json": b"[" * 100_000}, "lists no assembly of it"),
        ({b"/srv/app.deps.json": b"[]"}, "lists no assembly of it"),
        (deps({"x": {"json/1": _ASSETS}}), NO_FILES),
    ],
)  # fmt: skip
def test_nuget_packages_without_assemblies_are_not_observable(
    contents: dict[bytes, bytes], reason: str
) -> None:
    """Known for compiling only, of another version, damaged, or merged into one file."""
    place = image(b"srv/app.deps.json", b"srv/app", contents=contents)
    found = one(artifact("dotnet", "json", at=("/srv/app.deps.json",)), place)
    assert found.unobservable is not None
    assert reason in found.unobservable
