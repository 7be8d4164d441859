"""Which files belong to a package of a language, ecosystem by ecosystem."""

import json

import pytest

from tests.unit.images import SITE, artifact, deb, image, one
from vexstream.claims import CLAIMANTS
from vexstream.filekinds import SHARED_CLASSES
from vexstream.ownership import NO_CODE, Ends, assign

_ASSETS = {
    "runtime": {"lib/net6.0/Json.dll": {}},
    "resources": {"lib/net6.0/de/Json.resources.dll": {"locale": "de"}},
    "native": {"runtimes/linux-x64/native/libjson.so": {}},
    "runtimeTargets": {"runtimes/win/lib/net6.0/Json.Win.dll": {"rid": "win"}},
}


def deps(targets: object) -> dict[bytes, bytes]:
    return {b"/srv/app.deps.json": json.dumps({"targets": targets}).encode()}


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


def test_an_empty_line_among_the_modules_names_none() -> None:
    site = SITE.encode()
    place = image(site + b"/pkg/a.py", site + b"/other/b.py")
    found = one(artifact("python", "x", top=("", "pkg")), place)
    assert found.files == (site + b"/pkg/a.py",)


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


@pytest.mark.parametrize("owned", [True, False])
def test_a_deep_path_of_bytecode_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch, *, owned: bool
) -> None:
    """Its ends would be as many bytes as the square of its depth."""
    looked_at: list[int] = []

    def counted(value: tuple[int, bytes]) -> int:
        looked_at.append(len(value[1]))
        return hash(value)

    monkeypatch.setattr("vexstream.ownership.hash", counted, raising=False)
    source = b"/d" * 400 + b"/x.py"
    ends = Ends([source] if owned else [b"/x.py", b"/other/x.py"], {b"x.py"})
    before = sum(looked_at)
    assert ends.longest(b"/cache" + source) == (source if owned else b"/x.py")
    assert sum(looked_at) - before == len(b"/cache" + source)


def test_a_record_that_names_a_directory_is_no_list_of_files() -> None:
    """PDM and flit link the package's directory into site-packages, and record the link."""
    site = SITE.encode()
    place = image(b"v/bin/flask", b"cache/flask/app.py", site + b"/x/bin/tool",
                  links={site + b"/flask": b"/cache/flask"})  # fmt: skip
    linked = one(artifact("python", "flask", files=("flask", "../../../bin/flask")), place)
    assert (linked.files, bool(linked.unobservable)) == ((b"/v/bin/flask",), True)
    assert one(artifact("python", "x", files=("x/bin/tool",)), place).unobservable is None


def test_bytecode_in_a_tree_of_its_own_belongs_to_the_owner_of_the_source() -> None:
    site = SITE.encode()
    tree = [b"/cache" + site + b"/m/a." + tag + b".pyc"
            for tag in (b"cpython-311-pytest-8.3.4", b"cpython-311.opt-2", b"pypy39")]  # fmt: skip
    place = image(site + b"/m/a.py", *tree, b"/cache/other/a.cpython-311.pyc")
    found = one(artifact("python", "m", files=("m/a.py",)), place)
    assert found.files == (*tree, site + b"/m/a.py")


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


def test_npm_does_not_own_the_programs_of_others_to_which_its_bin_links() -> None:
    home = b"n/node_modules/a"
    place = image(
        home + b"/package.json", home + b"/node_modules/mime/package.json",
        home + b"/node_modules/mime/src/cli.js", home + b"/node_modules/own/cli.js",
        links={home + b"/node_modules/.bin/mime": b"../mime/src/cli.js",
               home + b"/node_modules/.bin/own": b"../own/cli.js",
               home + b"/node_modules/.bin/out": b"/n/tool.js", b"n/tool.js": b"/n/tools/t.js"},
        alike={b"n/tools/t.js": 1},
    )  # fmt: skip
    a, mime = assign(
        [artifact("npm", "a", at=("/n/node_modules/a/package.json",)),
         artifact("npm", "mime", at=("/n/node_modules/a/node_modules/mime/package.json",))], place,
    )  # fmt: skip
    assert b"/" + home + b"/node_modules/mime/src/cli.js" in mime.files
    assert b"/" + home + b"/node_modules/mime/src/cli.js" not in a.files
    assert {b"/" + home + b"/node_modules/own/cli.js", b"/n/tools/t.js"} <= set(a.files)


def test_npm_owns_both_directories_that_share_a_manifest_by_a_symlink() -> None:
    """Debian's lodash-es has the package.json of lodash; Syft tells one of them."""
    place = image(b"js/lodash/package.json", b"js/lodash/i.js", b"js/lodash-es/reject.js",
                  links={b"js/lodash-es/package.json": b"../lodash/package.json"})  # fmt: skip
    found = one(artifact("npm", "lodash", at=("/js/lodash/package.json",)), place)
    assert {b"/js/lodash/i.js", b"/js/lodash-es/reject.js"} <= set(found.files)


def test_npm_owns_what_it_brought_under_another_name() -> None:
    """``preact/hooks`` has a name and a version: Syft takes it for a package."""
    home, names = b"n/node_modules/preact", (b"", b"/hooks", b"/hooks/node_modules/x")
    manifests = [home + name + b"/package.json" for name in names]
    place = image(*manifests, home + b"/hooks/i.js", home + b"/hooks/node_modules/x/i.js")
    whole, hooks, nested = assign(
        [artifact("npm", f"p{n}", at=(f"/{path.decode()}",)) for n, path in enumerate(manifests)],
        place,
    )
    assert b"/" + home + b"/hooks/i.js" in whole.files
    assert b"/" + home + b"/hooks/i.js" in hooks.files
    assert b"/" + home + b"/hooks/node_modules/x/i.js" in nested.files
    assert not any(path.startswith(b"/" + home + names[2] + b"/") for path in whole.files)


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


def test_conda_owns_what_its_record_lists_in_every_environment() -> None:
    """A prefix may be reached by a symlink; what Python compiled is owned under its source."""
    module = "lib/python3.12/site-packages/lent/core.py"
    listed = (module, module.replace("core.py", "__pycache__/core.cpython-312.pyc"), "bin/lent",
              "lib/liblent.so", "lib/liblent.so.1")  # fmt: skip
    prefixes = ("/opt/conda", "/opt/conda/envs/shop")
    place = image(
        *(f"{prefix}/{name}".encode() for prefix in prefixes for name in listed if name[-1] != "1"),
        links={f"{prefix}/lib/liblent.so.1".encode(): b"liblent.so" for prefix in prefixes}
        | {b"/conda": b"/opt/conda"},
    )  # fmt: skip
    at = ("/conda/conda-meta/lent-1-0.json", "/opt/conda/envs/shop/conda-meta/lent-1-0.json")
    made = artifact("conda", "lent", files=listed, at=at, metadata="conda-metadata-entry")
    found = one(made, place)
    names = ("bin/lent", "lib/liblent.so", module)
    assert set(found.files) == {f"{p}/{name}".encode() for p in prefixes for name in names}
    assert found.unobservable is None


@pytest.mark.parametrize(("files", "at"), [((), "/c/conda-meta/x.json"), (("a.py",), "/x.json")])
def test_conda_without_a_list_or_a_prefix_is_not_observable(
    files: tuple[str, ...], at: str
) -> None:
    made = artifact("conda", "x", files=files, at=(at,), metadata="conda-metadata-entry")
    assert one(made, image(b"c/a.py")).unobservable is not None


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


def test_a_runtime_of_dotnet_is_its_directory() -> None:
    home = "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1"
    place = image(f"{home}/a.dll".encode(), f"{home}/libcoreclr.so".encode(), b"/srv/app/b.dll")
    made = artifact("dotnet", "Microsoft.NETCore.App", at=(f"{home}/a.dll",), metadata="")
    found = one(made, place)
    assert found.files == (f"{home}/a.dll".encode(), f"{home}/libcoreclr.so".encode())
    assert found.unobservable is not None
    at_root = artifact("dotnet", "Microsoft.NETCore.App", at=("/a.dll",), metadata="")
    assert one(at_root, image(b"a.dll", b"b.dll")).files == ()


def test_a_program_of_windows_shows_its_use_and_no_silence() -> None:
    """By the name that it gives itself, which may be that of a program that stands alone."""
    made = artifact("binary", "node", at=("/opt/node.exe",), metadata="pe-binary")
    found = one(made, image(b"opt/node.exe"))
    assert (found.files, found.unobservable is None) == ((b"/opt/node.exe",), False)


@pytest.mark.parametrize(
    ("package_type", "metadata"),
    [("deb", "snap-entry"), ("deb", "dpkg-archive-entry"), ("cpan", "cpan-distribution"),
     ("cpan", "binary-signature"), ("bitnami", "bitnami-sbom-entry"), ("nix", "nix-store-entry"),
     ("homebrew", "homebrew-formula"), ("dotnet", "dotnet-packages-lock-entry"),
     ("npm", "javascript-bun-lock-entry"), ("python", "python-uv-lock-entry")],
)  # fmt: skip
def test_what_is_not_mapped_is_never_unused(package_type: str, metadata: str) -> None:
    made = artifact(package_type, "a", files=["/opt/a"], at=["/opt/a"], metadata=metadata)
    assert one(made, image(b"opt/a")).unobservable is not None


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
                  bundle, bundles={b"/" + bundle: False})  # fmt: skip
    found = assign([artifact("npm", "ms", at=(ms + "package.json",)),
                    artifact("npm", "app", at=("/srv/app/package.json",)),
                    deb("node-x", "/usr/share/nodejs/x/dist/x.js")], place)  # fmt: skip
    assert found[0].perhaps_in == (() if observable else (b"/srv/app/dist/main.js",))
    assert found[1].perhaps_in == found[2].perhaps_in == ()


@pytest.mark.parametrize(
    ("archive", "observable"),
    [(b"srv/app.jsa", False), (b"srv/app.aot", False), (b"opt/.scc/C290M4F1A64P_x_G41L00", False),
     (b"srv/org.eclipse.osgi/5/0/bundleFile", False), (b"srv/org.eclipse/5/0/bundleFile", True),
     (b"opt/jdk/lib/server/classes.jsa", True), (b"opt/jdk/lib/server/classes_nocoops.jsa", True)],
)  # fmt: skip
def test_java_may_run_from_an_archive_of_shared_classes(archive: bytes, observable: bool) -> None:
    found = one(artifact("java-archive", "x", at=("/srv/x.jar",)), image(b"srv/x.jar", archive))
    assert (found.unobservable is None) == observable


@pytest.mark.parametrize("archive", [b"/srv/app.cds", b"/opt/jdk/lib/server/classes.jsa"])
def test_shared_classes_are_known_by_their_content_as_well(archive: bytes) -> None:
    """The JDK's own archive when it was made anew, though the JDK brought a file of that name."""
    place = image(b"srv/x.jar", archive[1:], holders={archive: SHARED_CLASSES})
    jdk = artifact("binary", "jdk", files=(archive.decode(),), metadata="java-jvm-installation")
    found, _ = assign([artifact("java-archive", "x", at=("/srv/x.jar",)), jdk], place)
    reason = f"the shared classes in {archive.decode()} may be its own"
    assert (found.files, found.unobservable) == ((b"/srv/x.jar",), reason)


def test_stripped_modules_of_erlang_belong_to_the_owner_of_the_name() -> None:
    ssh, other = b"usr/lib/erlang/lib/ssh-4.15/ebin/ssh.beam", b"usr/lib/erlang/lib/x/ebin/x.beam"
    copy = b"app/rel/lib/ssh-4.15/ebin/ssh.beam"
    place = image(ssh, other, copy, b"app/rel/lib/shop-1/ebin/Elixir.Shop.beam")
    found = assign([deb("erlang-ssh", f"/{ssh.decode()}"), deb("erlang-x", f"/{other.decode()}")],
                   place)  # fmt: skip
    assert [package.files for package in found] == [(b"/" + copy, b"/" + ssh), (b"/" + other,)]


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
        (deps({"x": {"json/1": _ASSETS}}), "lists assemblies of it that lie elsewhere"),
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


def test_a_nuget_package_that_one_application_has_from_a_store_is_not_observable() -> None:
    listed = deps({"x": {"json/1": _ASSETS}})[b"/srv/app.deps.json"]
    place = image(b"srv/Json.dll", b"srv/app.deps.json", b"opt/web.deps.json",
                  b"usr/share/dotnet/store/x64/net6.0/json/1/lib/net6.0/Json.dll",
                  contents={b"/srv/app.deps.json": listed,
                            b"/opt/web.deps.json": listed})  # fmt: skip
    at = ("/srv/app.deps.json", "/opt/web.deps.json")
    found = one(artifact("dotnet", "json", at=at), place)
    assert found.files == (b"/srv/Json.dll",)
    assert found.unobservable == "/opt/web.deps.json lists assemblies of it that lie elsewhere"


def test_bytecode_in_the_place_of_a_removed_source_is_owned() -> None:
    place = image(SITE.encode() + b"/m/a.pyc")
    found = one(artifact("python", "m", files=("m/a.py",)), place)
    assert (found.files, found.unobservable) == ((SITE.encode() + b"/m/a.pyc",), None)
