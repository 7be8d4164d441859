"""Files that were copied, vendored or moved still belong to the package that they came with."""

import pytest

from tests.unit.images import SITE, artifact, deb, image, one
from vexstream.bundled import EGG
from vexstream.imagefiles import Image, Native
from vexstream.ownership import NO_FILES, TooManyAlikeError, assign
from vexstream.recognition import Form
from vexstream.rootfs import Entry, EntryKind, RootFs


def test_a_copy_of_a_packages_code_belongs_to_it_too() -> None:
    place = image(alike={b"usr/lib/libssl.so.3": 1, b"app/libssl.so.3": 1, b"app/ssl.dat": 1})
    assert one(deb("libssl3", "/usr/lib/libssl.so.3"), place).files == (
        b"/app/libssl.so.3", b"/app/ssl.dat", b"/usr/lib/libssl.so.3"
    )  # fmt: skip


def test_a_copy_of_data_that_nobody_owns_belongs_to_its_package() -> None:
    zone = b"usr/share/zoneinfo/Asia/Tokyo"
    place = image(alike={zone: 1, b"etc/localtime": 1, b"srv/other/zone": 1})
    zones, other = assign([deb("tzdata", "/" + zone.decode()), deb("x", "/srv/other/zone")], place)
    assert zones.files == (b"/etc/localtime", b"/" + zone)
    assert other.files == (b"/etc/localtime", b"/srv/other/zone")
    at = tuple(f"/srv/node_modules/{n}/package.json" for n in "abcd")
    packages = [artifact("npm", n, at=(place,)) for n, place in zip("abcd", at, strict=True)]
    for count in (3, 4):
        alike = {f"srv/node_modules/{n}/same.dat".encode(): 1 for n in "abcd"[:count]}
        place = image(*(path[1:].encode() for path in at), alike={**alike, b"srv/copy": 1})
        found = assign(packages[:count], place)
        assert {b"/srv/copy" in package.files for package in found} == {count == 3}


def test_configuration_that_a_package_copies_when_it_is_installed_is_no_use_of_its_code() -> None:
    data = b"usr/share/libc-bin/nsswitch.conf"
    place = image(b"usr/bin/ldd", alike={data: 1, b"etc/nsswitch.conf": 1, b"app/x.conf": 1})
    found = one(deb("libc-bin", "/" + data.decode(), "/usr/bin/ldd"), place)
    assert found.files == (b"/app/x.conf", b"/usr/bin/ldd", b"/" + data)


def test_too_many_copies_of_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = image(alike={b"usr/share/x/zone": 1, b"app/a": 1, b"app/b": 1})
    monkeypatch.setattr("vexstream.ownership.MAX_ALIKE", 1)
    with pytest.raises(TooManyAlikeError):
        one(deb("x", "/usr/share/x/zone"), place)


def test_a_licence_is_not_use_of_the_package_and_what_is_executed_is_it_can_be_executed() -> None:
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


def test_too_many_copies_of_the_same_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vexstream.ownership.MAX_ALIKE", 8)
    homes = [f"srv/node_modules/p{n}" for n in range(3)]
    names = [f"{home}/{name}".encode() for home in homes for name in ("package.json", "i.js")]
    same = {name: 7 for name in names if name.endswith(b".js")}
    place = image(*(n for n in names if n not in same), alike=same)
    packages = [artifact("npm", f"p{n}", at=[f"/{home}/package.json"])
                for n, home in enumerate(homes)]  # fmt: skip
    with pytest.raises(TooManyAlikeError):
        assign(packages, place)


def test_files_that_packages_have_in_common_anyway_are_no_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """python3-azure has 269 Python packages, each of which owns its files: fifty of one content."""
    site = "/usr/lib/python3/dist-packages"
    same = [f"{site}/azure/m{n}/_vendor.py" for n in range(20)]
    eggs = [f"{site}/azure_{n}.egg-info/PKG-INFO" for n in range(20)]
    place = image(*(egg.encode() for egg in eggs), alike={name.encode(): 1 for name in same})
    dists = [artifact("python", f"azure-{n}", at=(egg,)) for n, egg in enumerate(eggs)]
    monkeypatch.setattr("vexstream.ownership.MAX_ALIKE", 100)
    found = assign([deb("python3-azure", *same, *eggs), *dists], place)
    assert all({name.encode() for name in same} <= set(package.files) for package in found)


def test_too_many_packages_with_the_same_files_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten manifests of one file are each package's; so is each of ten programs."""
    homes = [f"srv/node_modules/p{n}/package.json" for n in range(10)]
    packages = [artifact("npm", f"p{n}", at=[f"/{home}"]) for n, home in enumerate(homes)]
    linked = image(homes[0].encode(), hard={h.encode(): homes[0].encode() for h in homes[1:]})
    programs = {f"/srv/shop{n}".encode(): "npm" for n in range(10)}
    held = image(*(h.encode() for h in homes), *programs, holders=programs)
    for place in (linked, held):
        assign(packages, place)
        with monkeypatch.context() as few:
            few.setattr("vexstream.ownership.MAX_PAIRS", 99)
            with pytest.raises(TooManyAlikeError):
                assign(packages, place)


def test_a_program_that_may_hold_packages_is_theirs() -> None:
    """It is not when it belongs to another package; that of the application itself is."""
    holders = {b"/srv/shop": "npm", b"/usr/bin/compose": "python", b"/opt/app.pyz": "python"}
    place = image(b"srv/shop", b"srv/package.json", b"usr/bin/compose", b"opt/app.pyz",
                  b"srv/node_modules/ms/package.json", b"srv/node_modules/ms/index.js",
                  b"v/lib/python3.11/site-packages/six.py", holders=holders)  # fmt: skip
    found = {
        package.name: package
        for package in assign(
            [deb("compose", "/usr/bin/compose"),
             artifact("npm", "ms", at=["/srv/node_modules/ms/package.json"]),
             artifact("npm", "shop", at=["/srv/package.json"]),
             artifact("python", "six", files=["six.py"], at=[f"{SITE}/six.dist-info/METADATA"]),
             artifact("python", "gone", files=["gone.py"], at=[f"{SITE}/gone.dist-info/METADATA"])],
            place,
        )
    }  # fmt: skip
    assert b"/srv/shop" in found["ms"].files
    assert found["ms"].unobservable is None
    assert b"/opt/app.pyz" in found["six"].files
    assert b"/usr/bin/compose" not in found["six"].files
    assert found["gone"].unobservable == NO_FILES
    assert found["compose"].files == (b"/usr/bin/compose",)


def test_a_zipped_egg_is_a_file_of_the_package_that_it_is_called_by() -> None:
    egg = f"{SITE}/zope_event-5.0-py3.11.egg".encode()
    homes = {name: f"/w/site-packages/{name}.dist-info/METADATA" for name in ("zope.event", "six")}
    place = image(egg, *(home.encode() for home in homes.values()), holders={egg: EGG})
    event, six = assign(
        [artifact("python", name, at=(home,)) for name, home in homes.items()], place
    )
    assert egg in event.files
    assert egg not in six.files


@pytest.mark.parametrize("kind", ["go-module", "rust-crate"])
def test_every_name_of_a_program_that_may_hold_packages_is_theirs(kind: str) -> None:
    """Also where Syft has found packages of another language in it, and of any of its names."""
    six = b"v/lib/python3.11/site-packages/six.py"
    place = image(b"opt/app", six, hard={b"opt/app-2": b"opt/app"},
                  holders={b"/opt/app": "python"})  # fmt: skip
    crate = artifact(kind, "pyo3", at=["/opt/app"], metadata="go-module-buildinfo-entry"
                     if kind == "go-module" else "rust-cargo-audit-entry")  # fmt: skip
    record = [f"{SITE}/six.dist-info/METADATA"]
    _, found = assign([crate, artifact("python", "six", files=["six.py"], at=record)], place)
    assert found.files == (b"/opt/app", b"/opt/app-2", b"/" + six)


@pytest.mark.parametrize(("name", "held"), [("deno", True), ("node", True), ("redis", False)])
def test_a_program_that_holds_npm_packages_holds_their_runtime(name: str, held: bool) -> None:
    """Deno puts another build of itself there (denort), pkg another one of Node."""
    place = image(b"usr/bin/deno", b"srv/shop", holders={b"/srv/shop": "npm"})
    found = one(artifact("binary", name, at=["/usr/bin/deno"]), place)
    assert (b"/srv/shop" in found.files) is held


def test_a_checkpoint_counts_beside_a_bundle_and_for_packages_of_the_system() -> None:
    """A bundle that holds no copy of a package does not answer for the checkpoint."""
    place = image(b"srv/node_modules/ms/package.json", b"srv/node_modules/ms/index.js",
                  b"app/main.js", b"var/cr/core-7.img", b"var/cr/pages-1.img", b"usr/bin/tool",
                  b"usr/lib/python3/dist-packages/yaml/__init__.py",
                  bundles={b"/app/main.js": False})  # fmt: skip
    debs = [deb("python3-yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py"),
            deb("tool", "/usr/bin/tool")]  # fmt: skip
    ms = artifact("npm", "ms", at=["/srv/node_modules/ms/package.json"])
    found = [package.unobservable for package in assign([ms, *debs], place)]
    assert found == 2 * ["the checkpoint in /var/cr may hold a copy of it"] + [None]


def test_shared_classes_may_be_those_of_the_systems_jars() -> None:
    place = image(b"usr/share/java/a.jar", b"usr/bin/tool", b"app/classes.jsa")
    debs = [deb("liba-java", "/usr/share/java/a.jar"), deb("tool", "/usr/bin/tool")]
    jar, tool = assign(debs, place)
    assert jar.unobservable == "the shared classes in /app/classes.jsa may be its own"
    assert tool.unobservable is None


def test_a_program_that_may_hold_packages_of_the_operating_system_too() -> None:
    """So it is when a package that was made at home owns it."""
    own = {b"/var/lib/dpkg/info/shop.list": b"/usr/bin/shop"}
    six = b"usr/lib/python3/dist-packages/six.py"
    place = image(b"usr/bin/shop", six, b"usr/bin/bash", contents=own,
                  holders={b"/usr/bin/shop": "python"})  # fmt: skip
    debs = [deb("shop", "/usr/bin/shop"), deb("bash", "/usr/bin/bash"),
            deb("python3-six", "/" + six.decode())]  # fmt: skip
    found = {package.name: package.files for package in assign(debs, place)}
    assert found["python3-six"] == (b"/usr/bin/shop", b"/" + six)
    assert found["bash"] == (b"/usr/bin/bash",)


@pytest.mark.parametrize("own", [False, True])
def test_a_program_in_a_package_of_ones_own_may_hold_others(*, own: bool) -> None:
    """As ``pip install .`` or ``npm install ./app.tgz`` put it there."""
    record = "direct_url.json" if own else "RECORD"
    names = ("shop/run.pyz", f"shop-1.dist-info/{record}")
    program, home = f"{SITE}/shop/run.pyz".encode(), b"/srv/node_modules/shop"
    place = image(program, f"{SITE}/{names[1]}".encode(), f"{SITE}/six.py".encode(),
                  home + b"/package.json", home + b"/run", b"/srv/node_modules/ms/package.json",
                  holders={program: "python", home + b"/run": "npm"})  # fmt: skip
    place.own_homes = frozenset([home] if own else [])
    six, _, ms, _ = assign(
        [artifact("python", "six", files=["six.py"], at=[f"{SITE}/six.dist-info/METADATA"]),
         artifact("python", "shop", files=names, at=[f"{SITE}/shop-1.dist-info/METADATA"]),
         artifact("npm", "ms", at=["/srv/node_modules/ms/package.json"]),
         artifact("npm", "shop", at=[f"{home.decode()}/package.json"])],
        place,
    )  # fmt: skip
    assert (program in six.files, home + b"/run" in ms.files) == (own, own)


def test_bytecode_in_a_tree_of_its_own_or_beside_a_link_belongs_to_its_source() -> None:
    elpa = b"usr/share/emacs/site-lisp/elpa"
    place = image(b"srv/vendor/d/node.module", b"var/cache/1a/srv/vendor/d/node.module.bin",
                  b"var/cache/1a/srv/other.module.bin", elpa + b"-src/org-9/org.el",
                  elpa + b"/org-9/org.elc",
                  links={elpa + b"/org-9/org.el": b"../../elpa-src/org-9/org.el"})  # fmt: skip
    org, node = assign([deb("elpa-org", f"/{elpa.decode()}-src/org-9/org.el"),
                        deb("drupal", "/srv/vendor/d/node.module")], place)  # fmt: skip
    assert b"/" + elpa + b"/org-9/org.elc" in org.files
    assert node.files == (
        b"/srv/vendor/d/node.module",
        b"/var/cache/1a/srv/vendor/d/node.module.bin",
    )


@pytest.mark.parametrize(
    ("files", "doubt"),
    [
        (("core-7.img", "pages-1.img"), True),
        (("core.img", "cppath"), True),
        (("core-7.img",), False),
        (("core.img",), False),  # GRUB's
        (("core-7.img", "deeper/pages-1.img"), False),
    ],
)
def test_a_checkpoint_may_hold_every_package_of_a_language(
    files: tuple[str, ...], doubt: bool
) -> None:
    place = image(b"opt/a.jar", b"usr/bin/tool", *(f"var/cr/{name}".encode() for name in files))
    jar, tool = assign(
        [artifact("java-archive", "a", at=("/opt/a.jar",)), deb("tool", "/usr/bin/tool")], place
    )
    assert (jar.unobservable == "the checkpoint in /var/cr may hold a copy of it") is doubt
    assert tool.unobservable is None


def test_what_guile_compiled_at_its_first_run_belongs_to_its_source() -> None:
    source = b"usr/share/guile/site/3.0/json.scm"
    cached = b"root/.cache/guile/ccache/3.0-LE-8-4.6/" + source + b".go"
    found = one(deb("guile-json", "/" + source.decode()), image(source, cached, b"src/json.go"))
    assert found.files == (b"/" + cached, b"/" + source)


def test_a_program_of_the_same_code_is_a_copy_unless_somebody_owns_it() -> None:
    library, stripped, other = b"usr/lib/libssl.so.3", b"app/libssl.so.3", b"usr/bin/openssl"
    known = image(library, stripped, other)
    natives = {
        b"/" + path: Native(Form.PROGRAM, frozenset(), (0,), code=7)
        for path in (library, stripped, other)
    }
    found = [deb("libssl3", "/usr/lib/libssl.so.3"), deb("openssl", "/usr/bin/openssl")]
    packages = assign(found, Image(known.root, natives=natives))
    files = {package.name: package.files for package in packages}
    assert files["libssl3"] == (b"/app/libssl.so.3", b"/usr/lib/libssl.so.3")
    assert files["openssl"] == (b"/app/libssl.so.3", b"/usr/bin/openssl")


def test_compiled_lua_may_hold_lua_packages_of_the_operating_system() -> None:
    socket = b"usr/share/lua/5.1/socket.lua"
    place = image(b"srv/shop.luac", socket, b"usr/bin/bash", holders={b"/srv/shop.luac": "lua"})
    debs = [deb("lua-socket", "/" + socket.decode()), deb("bash", "/usr/bin/bash")]
    rock = artifact("lua-rocks", "luasocket", at=["/usr/share/lua/5.1/luasocket.rockspec"])
    found = {package.name: package for package in assign([*debs, rock], place)}
    assert found["lua-socket"].files == (b"/srv/shop.luac", b"/" + socket)
    assert found["bash"].files == (b"/usr/bin/bash",)
    assert found["luasocket"].unobservable is not None  # as every package of LuaRocks
