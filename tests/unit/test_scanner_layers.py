"""Reading layers: forms of compression, damage, limits."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from services.scanner import layers, rereading
from services.scanner.errors import SbomFailedError, TooLargeError
from services.scanner.layers import MIN_ALIKE_BYTES, unpack
from tests.unit.elves import Text, archive, object_file, program
from vexstream import zips

PLENTY = 64 * 1024 * 1024


def tar(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def layer(folder: Path, content: bytes, name: str = "layer") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_every_form_of_compression(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    long = "d/" + "n" * 200
    plain = tar((long, b"x" * 70_000), ("caf\udce9", b""))
    made = unpack([layer(tmp_path, pack(plain))], PLENTY)
    assert sorted(made.root.files_under(b"/")) == [b"/caf\xe9", b"/" + long.encode()]


@pytest.mark.parametrize("form", ["1.0", "0.1"])
def test_files_with_holes_are_read_as_they_are(tmp_path: Path, form: str) -> None:
    """As bsdtar and ``tar --sparse`` store them; one is a copy of another that has no holes."""
    content = b"\x7fELF" + bytes(60_000) + b"x" * 5000
    stored = content[:512] + content[-5512:]
    spots = ["2", "0", "512", str(len(content) - 5512), "5512"]
    info = tarfile.TarInfo("opt/copy")
    info.pax_headers = {"GNU.sparse.major": form[0], "GNU.sparse.minor": form[2]}
    if form == "1.0":
        info.pax_headers["GNU.sparse.realsize"] = str(len(content))
        stored = "".join(f"{spot}\n" for spot in spots).encode().ljust(512, b"\0") + stored
    else:
        info.pax_headers |= {"GNU.sparse.size": str(len(content)),
                             "GNU.sparse.map": ",".join(spots[1:])}  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        info.size = len(stored)
        made.addfile(info, io.BytesIO(stored))
        for name, whole in (("usr/lib/a.so", content), ("usr/lib/b.so", content + b"y")):
            info = tarfile.TarInfo(name)
            info.size = len(whole)
            made.addfile(info, io.BytesIO(whole))
    [group] = unpack([layer(tmp_path, buffer.getvalue())], PLENTY).root.alike()
    assert sorted(group.paths) == [b"/opt/copy", b"/usr/lib/a.so"]


def test_the_content_of_a_large_file_with_holes_is_left_out(tmp_path: Path) -> None:
    """Nor does one whose map promises what cannot be hold anything up."""
    for size in (1 << 50, 4096):
        info = tarfile.TarInfo("disk.img")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1",
                            "GNU.sparse.size": str(size),
                            "GNU.sparse.map": f"{1 << 60},0,5,-7,0,512"}  # fmt: skip
        info.size = 512
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
            made.addfile(info, io.BytesIO(b"x" * 512))
            made.addfile(tarfile.TarInfo("after"))
        found = unpack([layer(tmp_path, buffer.getvalue())], PLENTY).root.files_under(b"/")
        assert sorted(found) == [b"/after", b"/disk.img"]


def test_holes_count_as_what_they_unpack_to(tmp_path: Path) -> None:
    """Else some kilobytes of a layer would be read for hours."""
    info = tarfile.TarInfo("opt/shop")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1",
                        "GNU.sparse.size": str(1 << 29), "GNU.sparse.map": "0,512"}  # fmt: skip
    info.size = 512
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info, io.BytesIO(b"x" * 512))
    with pytest.raises(TooLargeError, match="VEXSTREAM_MAX_UNPACKED_MIB"):
        unpack([layer(tmp_path, buffer.getvalue())], PLENTY)


def test_layers_are_merged_in_order_and_dpkgs_lists_kept(tmp_path: Path) -> None:
    info = "var/lib/dpkg/info/"
    lower = layer(tmp_path, tar((info + "a.list", b"/old\n"), (info + "b.list", b"/b\n")), "1")
    upper = layer(tmp_path, tar((info + "a.list", b"/new\n"), (info + ".wh.b.list", b"")), "2")
    assert unpack([lower, upper], PLENTY).contents == {b"/var/lib/dpkg/info/a.list": b"/new\n"}


def test_links_and_devices(tmp_path: Path) -> None:
    symlink, hard, device = tarfile.TarInfo("s"), tarfile.TarInfo("h"), tarfile.TarInfo("null")
    symlink.type, symlink.linkname = tarfile.SYMTYPE, "f"
    hard.type, hard.linkname = tarfile.LNKTYPE, "f"
    device.type = tarfile.CHRTYPE
    plain = tar(("f", b""), ("", symlink), ("", hard), ("", device))
    root = unpack([layer(tmp_path, plain)], PLENTY).root
    assert root.realpath(b"/s") == b"/f"
    assert root.hard_links() == [[b"/f", b"/h"]]
    assert not root.is_file(b"/null")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _header_overwritten(content: bytes) -> bytes:
    """tarfile ends quietly at such a header: files behind it would be missing."""
    assert len(content) > 2048
    return content[:1024] + b"\xff" * 512 + content[1536:]


WHOLE = tar(*((f"f{n}", bytes(512)) for n in range(40)))


@pytest.mark.parametrize(
    "content",
    [
        b"this is no tar file\n" * 100,
        _cut(gzip.compress(WHOLE)),
        _cut(zstandard.ZstdCompressor(write_content_size=True).compress(WHOLE)),
        WHOLE[:1500],
        _header_overwritten(WHOLE),
        b"BZh91AY&SY",
    ],
    ids=["rubbish", "cut gzip", "cut zstd", "cut tar", "overwritten header", "bzip2"],
)
def test_a_damaged_layer_is_never_a_shorter_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SbomFailedError, match="layer"):
        unpack([layer(tmp_path, content)], PLENTY)


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    bomb = layer(tmp_path, gzip.compress(tar(("big", bytes(8 * 1024 * 1024)))))
    with pytest.raises(TooLargeError, match="VEXSTREAM_MAX_UNPACKED_MIB"):
        unpack([bomb], 1024 * 1024)


def test_a_header_cannot_ask_for_any_amount_of_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    with pytest.raises(TooLargeError, match="header"):
        unpack([layer(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))], 2**40)


def test_the_number_of_entries_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_ENTRIES", 3)
    with pytest.raises(TooLargeError, match="entries"):
        unpack([layer(tmp_path, WHOLE)], PLENTY)


def test_a_path_longer_than_the_kernel_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="path"):
        unpack([layer(tmp_path, tar(("d/" * 3000 + "f", b"")))], PLENTY)


def test_equal_contents_are_known_over_all_layers(tmp_path: Path) -> None:
    code, small = b"x" * MIN_ALIKE_BYTES, b"x" * (MIN_ALIKE_BYTES - 1)
    lower = layer(tmp_path, tar(("a", code), ("s", small), ("gone", code + b"y")), "1")
    upper = layer(tmp_path, tar(("b", code), ("t", small), (".wh.gone", b""),
                                ("there", code + b"y"), ("lone", code + b"z")), "2")  # fmt: skip
    groups = unpack([lower, upper], PLENTY).root.alike()
    assert sorted((sorted(g.paths), g.former) for g in groups) == [
        ([b"/a", b"/b"], []), ([b"/there"], [b"/gone"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "bundle"),
    [
        ("./app/.next/server/a.js", b"(()=>{var e={}};t[n]={exports:{}};" + b" " * 999, True),
        ("app/a.mjs", b"// node_modules/x/index.mjs\nvar x = 1;\n" * 20, True),
        ("app/a.cjs", b"a" * 1000, True),
        ("app/a.cjs", b"a" * 250 + b"\nb\n" * 50, True),
        ("app/a.cjs", b"a" * 250 + b"\nb\n" * 100, False),
        ("app/a.js", b"let a = 1;\n" * 6000, True),
        ("app/a.js", b"let a = require('x');\n" * 100, False),
        ("app/node_modules/x/dist/x.js", b"a" * 1000, False),
        ("app/node_modules/.pnpm/x@1.0.0/node_modules/x/dist/x.js", b"a" * 1000, False),
        ("app/node_modules/.vite/deps/x.js", b"a" * 1000, True),
        ("app/a.css", b"a" * 1000, False),
    ],
)
def test_what_a_bundler_wrote_is_known(
    tmp_path: Path, name: str, content: bytes, bundle: bool
) -> None:
    found = unpack([layer(tmp_path, tar((name, content)))], PLENTY).bundles
    assert found.keys() == ({b"/" + name.removeprefix("./").encode()} if bundle else set())


@pytest.mark.parametrize(
    ("content", "minified"),
    [
        (b"a" * 1000, True),
        (b"a" * 1000 + b"\n" + b"b\n" * 400, True),
        (b"a" * 1000 + b"\n" + b"b\n" * 600, False),
        (b"// node_modules/x/index.js\n" * 100, False),
        (b"let a;\n" * 400_000 + b"a" * 4_000_000, True),
        (b"a" * 5_000_000, True),
    ],
)
def test_a_bundle_was_minified_if_half_of_it_is_in_long_lines(
    tmp_path: Path, content: bytes, minified: bool
) -> None:
    found = unpack([layer(tmp_path, tar(("a.js", content)))], PLENTY).bundles
    assert found == {b"/a.js": minified}


def test_a_script_is_told_by_its_name_or_by_its_first_line(tmp_path: Path) -> None:
    command = b"#!/usr/bin/env node\n" + b"let a;\n" * 100
    files = {"bin/tool": command, "bin/x": command.replace(b"node", b"bash"), "a.mjs": command,
             "node_modules/a.js": command, "a.css": command[2:]}  # fmt: skip
    scripts = unpack([layer(tmp_path, tar(*files.items()))], PLENTY).scripts
    assert scripts == {b"/bin/tool": 0, b"/a.mjs": 0}


def test_a_mark_of_a_bundler_between_two_parts_is_found(tmp_path: Path) -> None:
    lines = b"let a = 1;\n"
    head = lines * (layers._STEP // len(lines))
    mark = b"// node_modules/x/index.js\n"
    place = layers._STEP - 10 - len(head) % len(lines)
    script = (head[:place] + b"\n" + mark + lines * 100)[-(layers._STEP - 5 + 2000) :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vexstream.scripts.BUNDLE_BYTES", 1 << 30)
        assert unpack([layer(tmp_path, tar(("a.js", script)))], PLENTY).bundles


def test_a_bundle_that_a_later_layer_replaced_is_none(tmp_path: Path) -> None:
    lower = layer(tmp_path, tar(("a.js", b"a" * 1000), ("b.js", b"a" * 1000)), "1")
    upper = layer(tmp_path, tar(("a.js", b"let a\n"), (".wh.b.js", b"")), "2")
    assert unpack([lower, upper], PLENTY).bundles == {}


@pytest.mark.parametrize("later", ["removed", "replaced"])
def test_what_is_known_of_a_file_holds_for_all_of_its_names(tmp_path: Path, later: str) -> None:
    """uv and pnpm link packages from their caches, which later layers remove."""
    site = "usr/site-packages/"
    files = {"app": program(bytes(400)), "a.js": b"a" * 1000, "x.pth": b"/srv\n",
             "z.jar": bytes(300) + zips.END + bytes(18), "h.h": b"static inline int f() { a[1]; }",
             "run": b"\x7fELF" + bytes(400) + b"MEI\x0c\x0b\x0a\x0b\x0e"}  # fmt: skip
    links = []
    for name in files:
        link = tarfile.TarInfo(site + name)
        link.type, link.linkname = tarfile.LNKTYPE, f"cache/site-packages/{name}"
        links.append(("", link))
    lower = tar(*((f"cache/site-packages/{n}", content) for n, content in files.items()), *links)
    upper = [("cache/.wh.site-packages", b"")] if later == "removed" else [
        (f"cache/site-packages/{name}", b"y\n" * 150) for name in files
    ]  # fmt: skip
    paths = [layer(tmp_path, lower, "1"), layer(tmp_path, tar(*upper), "2")]
    made = unpack(paths, PLENTY)
    found, home = made.image(), b"/" + site.encode()
    assert made.contents[home + b"x.pth"] == b"/srv\n"
    assert (made.bundles, made.holders) == ({home + b"a.js": True}, {home + b"run": "python"})
    assert made.headers == {home + b"h.h"}
    there = {b"/cache/site-packages/z.jar": (0,)}
    assert found.class_archives == {home + b"z.jar": there}
    assert found.scripts[home + b"a.js"] == {b"/cache/site-packages/a.js": (0,)}
    [(path, native)] = found.natives[home + b"app"].items()
    assert (path, native.layers) == (b"/cache/site-packages/app", (0,))
    assert [real for real, _ in rereading.each(found.class_archives, paths, PLENTY)] == [
        home + b"z.jar"
    ]


def test_a_link_to_itself_forgets_nothing(tmp_path: Path) -> None:
    link = tarfile.TarInfo("a.js")
    link.type, link.linkname = tarfile.LNKTYPE, "a.js"
    assert unpack([layer(tmp_path, tar(("a.js", b"a" * 1000), ("", link)))], PLENTY).bundles


def test_it_is_told_how_much_was_read(tmp_path: Path) -> None:
    layers_ = [layer(tmp_path, tar(*((f"f{n}", b"x" * 9000) for n in range(5))), f"l{number}")
               for number in range(2)]  # fmt: skip
    told: list[int] = []
    unpack(layers_, PLENTY, told.append)
    assert len(told) == 10
    assert told == sorted(told)
    assert told[4] > 5 * 9000
    assert sum(path.stat().st_size for path in layers_) >= told[-1] > 9 * 9000


def test_programs_and_archives_are_found_again_in_their_layers(tmp_path: Path) -> None:
    linked, code = archive(("a.o", object_file(Text(bytes(300))))), program(bytes(400))
    link = tarfile.TarInfo("lib")
    link.type, link.linkname = tarfile.SYMTYPE, "usr/lib"
    lower = tar(("usr/lib/a.a", linked), ("app", program(bytes(300))), ("gone", code),
                ("", link), ("lib/b.a", linked))  # fmt: skip
    upper = tar(("usr/lib/a.a", linked + b"\n"), ("app", code), (".wh.gone", b""))
    paths = [layer(tmp_path, lower, "1"), layer(tmp_path, upper, "2")]
    found = unpack(paths, PLENTY).image().natives
    layers_of = {real: {path: n.layers for path, n in ones.items()} for real, ones in found.items()}
    assert layers_of == {
        b"/usr/lib/a.a": {b"/usr/lib/a.a": (0, 1)},
        b"/usr/lib/b.a": {b"/lib/b.a": (0,)},
        b"/app": {b"/app": (1,)},
    }
    read = layers.contents(paths[1], {b"/app", b"/usr/lib/a.a"}, PLENTY)
    assert {path: b"".join(parts) for path, parts in read} == {
        b"/app": code, b"/usr/lib/a.a": linked + b"\n"
    }  # fmt: skip


def test_nothing_is_known_any_more_of_what_a_layer_has_replaced(tmp_path: Path) -> None:
    """By a symlink, which leads to another file, of which something else is true; by nothing."""
    npm, python = (b"\x7fELF" + mark + b"x" * 300 for mark in (b"<nexe~~sentinel>", b"pyembed\3"))
    link = tarfile.TarInfo("srv/run")
    link.type, link.linkname = tarfile.SYMTYPE, "/opt/run"
    below = tar(("opt/run", python), ("srv/run", npm), ("srv/empty", npm))
    above = tar(("srv/run", link), ("srv/empty", b""))
    layers = [layer(tmp_path, below, "below"), layer(tmp_path, above, "above")]
    made = unpack(layers, PLENTY)
    assert made.holders == {b"/opt/run": "python"}
