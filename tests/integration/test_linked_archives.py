"""Programs that were linked with a package's archive, built here by gcc, in a real image.

What linkers do to code cannot be made up: objects, archives and programs are those of binutils; the
packages are cataloged by the real Syft and mapped by the scanner.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner import mapping
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems
from vexstream.scan import Package

pytestmark = pytest.mark.real

PLENTY = 1 << 40
LIBRARY = "usr/lib/x86_64-linux-gnu"
_CODE = """
#include <stddef.h>
extern int report(const char *);
__thread int depth;
static unsigned table[256];
unsigned {name}_sum(const unsigned char *data, size_t size) {{
    unsigned sum = {seed};
    for (size_t i = 0; i < size; i++)
        sum = table[(sum ^ data[i] ^ depth) & 255] ^ (sum >> 7) * {seed};
    if (sum == 7) report("{name}");
    return sum;
}}
void {name}_fill(unsigned from) {{
    for (unsigned i = 0; i < 256; i++) {{
        unsigned at = i * from;
        for (int k = 0; k < 8; k++) at = at & 1 ? (at >> 1) ^ {seed}u : at >> 1;
        table[i] = at; depth += at & 3;
    }}
}}
"""
_MAIN = """
#include <stdio.h>
int report(const char *text) {{ return puts(text); }}
unsigned {name}_sum(const unsigned char *, unsigned long);
void {name}_fill(unsigned);
int main(int count, char **words) {{
    {name}_fill(count);
    return {name}_sum((unsigned char *)words[0], 3) & 1;
}}
"""
_SHORT = "".join(f"int short_{n}(int x) {{ return x * {n}; }}\n" for n in range(100))
DISTRIBUTION = "Debian Nobody Team <nobody@lists.debian.org>"
_STATUS = """Package: {name}
Status: install ok installed
Maintainer: {maintainer}
Architecture: amd64
Source: {source}
Version: 1.0-1
Description: test

"""


class Image:
    """A root file system with a dpkg database, and what the scanner makes of it."""

    def __init__(self, base: Path, syft: Path) -> None:
        self.base, self.root = base, base / "root"
        self._syft = syft
        ecosystems.write(self.root, {
            "etc/os-release": 'ID=debian\nVERSION_ID="12"\n', "var/lib/dpkg/status": "",
        })  # fmt: skip

    def package(
        self,
        name: str,
        files: Sequence[str],
        source: str = "",
        *,
        maintainer: str = DISTRIBUTION,
        home_made: bool = False,
    ) -> None:
        """Declares files to be a package's, of a distribution unless it was made at home."""
        if not home_made:
            files = [*files, f"usr/share/doc/{name}/copyright"]
        with (self.root / "var/lib/dpkg/status").open("a") as status:
            status.write(_STATUS.format(name=name, source=source or name, maintainer=maintainer))
        listed = "".join(f"/{file}\n" for file in files)
        ecosystems.write(self.root, {f"var/lib/dpkg/info/{name}.list": listed})

    def archive(self, name: str, *flags: str) -> Path:
        """lib<name>.a, owned by lib<name>-dev."""
        source = self.base / f"{name}.c"
        source.write_text(_CODE.format(name=name, seed=sum(name.encode()) * 7919 % 65521 | 1))
        object_, path = self.base / f"{name}.o", self.root / LIBRARY / f"lib{name}.a"
        path.parent.mkdir(parents=True, exist_ok=True)
        gcc("-O2", "-c", *flags, source, "-o", object_)
        ecosystems.run(["ar", "rcs", path, object_], self.base)
        self.package(f"lib{name}-dev", [f"{LIBRARY}/lib{name}.a"], name)
        return path

    def program(self, place: str, name: str, *flags: str | Path) -> Path:
        """A program that uses the archive's two functions."""
        source, path = self.base / "main.c", self.root / place
        source.write_text(_MAIN.format(name=name))
        path.parent.mkdir(parents=True, exist_ok=True)
        gcc("-O2", source, "-o", path, "-L", self.root / LIBRARY, f"-l{name}", *flags)
        return path

    def scanned(self) -> Mapping[str, Package]:
        """The packages by name."""
        layer, layout = self.base / "layer.tar", self.base / "oci"
        layer_of_directory(self.root, layer)
        made = write_archive(self.base / "image.tar", "localhost/c:1", [layer], ImageConfig())
        shutil.unpack_archive(made.path, layout)
        work = self.base / "work"
        work.mkdir()
        tools = Tools(ScannerSettings(syft=str(self._syft), grype=sys.executable))
        document = asyncio.run(tools.sbom(layout, work)).read_bytes()
        _, packages = mapping.packages(document, unpack([layer], PLENTY), [layer], PLENTY, work)
        return {package.name: package for package in packages}


def gcc(*arguments: str | Path) -> None:
    ecosystems.need("gcc", "apt-get install gcc")
    ecosystems.run(["gcc", *arguments], Path("/"))


@pytest.fixture
def image(syft: Path) -> Iterator[Image]:
    with tempfile.TemporaryDirectory(prefix="vx-") as folder:
        yield Image(Path(folder), syft)


_LINKS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "stripped": ("-s",),
    "shared library": ("-shared", "-fPIC"),
    "static": ("-static",),
    "sections gone": ("-Wl,--gc-sections", "-s"),
    "not relocatable": ("-no-pie",),
}


@pytest.mark.parametrize("how", _LINKS)
def test_a_linked_program_is_a_file_of_the_archives_package(image: Image, how: str) -> None:
    image.archive("alpha", "-fPIC", *(["-ffunction-sections"] if "gone" in how else []))
    image.archive("beta", "-fPIC")
    image.program("app/server", "alpha", *_LINKS[how])
    packages = image.scanned()
    assert b"/app/server" in packages["libalpha-dev"].files
    assert packages["libalpha-dev"].unobservable is None
    assert packages["libbeta-dev"].files == (f"/{LIBRARY}/libbeta.a".encode(),)
    assert packages["libbeta-dev"].unobservable is None


def test_a_program_that_a_distribution_packaged_is_its_own_matter(image: Image) -> None:
    image.archive("alpha")
    image.program("usr/bin/server", "alpha")
    image.package("server", ["usr/bin/server"])
    assert b"/usr/bin/server" not in image.scanned()["libalpha-dev"].files


def test_a_program_in_a_package_that_was_made_at_home(image: Image) -> None:
    image.archive("alpha")
    image.program("usr/bin/server", "alpha")
    image.package("server", ["usr/bin/server"], home_made=True)
    assert b"/usr/bin/server" in image.scanned()["libalpha-dev"].files


def test_a_program_in_a_package_that_looks_like_the_distributions(image: Image) -> None:
    image.archive("alpha")
    image.program("usr/bin/server", "alpha")
    image.package("server", ["usr/bin/server"], maintainer="Shop <dev@shop.example>")
    assert b"/usr/bin/server" in image.scanned()["libalpha-dev"].files


def test_a_short_function_alone_leaves_the_package_open(image: Image) -> None:
    image.archive("alpha")
    image.program("app/server", "alpha")
    source, made = image.base / "short.c", image.root / LIBRARY / "libbeta.a"
    source.write_text(
        "int beta_big(int *a, int n) { int s = n; for (int i = 0; i < n; i++) {"
        " s ^= a[i] * 77 + (s >> 3); a[i] = s % 1000003; if (s & 4) s += a[n - i - 1] / 3; }"
        " return s; }"
    )
    small = image.base / "small.c"
    small.write_text(
        "unsigned beta_mix(unsigned a, unsigned b)"
        " { return (a * 2654435761u ^ b >> 13) * 40503u + (b | 77) % 1009; }"
    )
    main = image.base / "other.c"
    main.write_text(
        "unsigned beta_mix(unsigned, unsigned);\n"
        "int main(int n, char **w) { return beta_mix(n, w[0][0]); }"
    )
    for path in (source, small):
        gcc("-O2", "-c", path, "-o", path.with_suffix(".o"))
    ecosystems.run(["ar", "rcs", made, source.with_suffix(".o"), small.with_suffix(".o")],
                   image.base)  # fmt: skip
    image.package("libbeta-dev", [f"{LIBRARY}/libbeta.a"], "beta")
    gcc("-O2", "-s", main, "-o", image.root / "app/other", made)
    packages = image.scanned()
    assert packages["libbeta-dev"].unobservable == (
        f"/app/other has a short function like one of /{LIBRARY}/libbeta.a"
    )
    assert packages["libalpha-dev"].unobservable is None


def test_an_archive_of_nothing_but_short_functions_leaves_its_package_open(image: Image) -> None:
    image.archive("alpha")
    image.program("app/server", "alpha")
    source, made = image.base / "short.c", image.root / LIBRARY / "libshort.a"
    source.write_text(_SHORT)
    gcc("-O2", "-ffunction-sections", "-c", source, "-o", image.base / "short.o")
    ecosystems.run(["ar", "rcs", made, image.base / "short.o"], image.base)
    image.package("libshort-dev", [f"{LIBRARY}/libshort.a"], "short")
    reason = image.scanned()["libshort-dev"].unobservable
    assert reason is not None
    assert "too short" in reason


def test_a_program_that_bolt_rewrote(image: Image) -> None:
    bolt = shutil.which("llvm-bolt") or shutil.which("llvm-bolt-16")
    if bolt is None:
        pytest.skip("llvm-bolt is not installed: apt-get install bolt-16")
    image.archive("alpha")
    plain = image.program("plain", "alpha", "-Wl,--emit-relocs", "-no-pie")
    (image.root / "app").mkdir()
    ecosystems.run([bolt, plain, "-o", image.root / "app/server", "-reorder-blocks=reverse",
                    "-reorder-functions=exec-count", "-use-old-text=0"], image.base)  # fmt: skip
    plain.unlink()
    assert "BOLT" in (image.scanned()["libalpha-dev"].unobservable or "")


def test_a_copy_of_a_library_that_was_stripped(image: Image) -> None:
    source, library = image.base / "alpha.c", image.root / LIBRARY / "libalpha.so.1"
    source.write_text(_SHORT)
    library.parent.mkdir(parents=True)
    gcc("-O2", "-g", "-shared", "-fPIC", source, "-o", library)
    image.package("libalpha1", [f"{LIBRARY}/libalpha.so.1"], "alpha")
    ecosystems.write(image.root, {"app/lib/libalpha-1f2e.so.1": library.read_bytes()})
    ecosystems.run(["strip", image.root / "app/lib/libalpha-1f2e.so.1"], image.base)
    assert b"/app/lib/libalpha-1f2e.so.1" in image.scanned()["libalpha1"].files


def test_code_for_optimisation_at_link_time_leaves_the_package_open(image: Image) -> None:
    image.archive("alpha", "-flto")
    image.archive("beta")
    image.program("app/server", "alpha", "-flto")
    packages = image.scanned()
    assert "optimisation at link time" in (packages["libalpha-dev"].unobservable or "")
    assert packages["libbeta-dev"].unobservable is None


def test_archives_without_a_program_of_ones_own_are_unused(image: Image) -> None:
    image.archive("alpha", "-flto")
    assert image.scanned()["libalpha-dev"].unobservable is None


def test_a_program_that_cannot_be_searched_leaves_the_packages_open(image: Image) -> None:
    image.archive("alpha")
    program = image.program("app/server", "alpha")
    os.truncate(program, 3000)
    assert "/app/server may have been linked" in (
        image.scanned()["libalpha-dev"].unobservable or ""
    )


def test_openssls_archives(image: Image) -> None:
    archives = [Path(f"/{LIBRARY}/lib{name}.a") for name in ("ssl", "crypto")]
    if not all(path.exists() for path in archives):
        pytest.skip("libssl-dev is not installed: apt-get install libssl-dev")
    source = image.base / "tls.c"
    source.write_text(
        "#include <openssl/ssl.h>\nint main(void) { return !SSL_CTX_new(TLS_method()); }\n"
    )
    (image.root / LIBRARY).mkdir(parents=True)
    (image.root / "app").mkdir()
    for path in archives:
        shutil.copy(path, image.root / LIBRARY)
    image.package("libssl-dev", [f"{LIBRARY}/{path.name}" for path in archives], "openssl")
    linked: dict[str, Sequence[str]] = {
        "static": ["-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic", "-s"],
        "dynamic": ["-lssl", "-lcrypto"],
    }
    for name, flags in linked.items():
        gcc("-O2", source, "-o", image.root / "app" / name, *flags)
    files = image.scanned()["libssl-dev"].files
    assert b"/app/static" in files
    assert b"/app/dynamic" not in files


def test_headers_that_hold_code(image: Image) -> None:
    headers = {
        "eigen": ["usr/include/eigen3/Eigen/Core", "usr/include/eigen3/Eigen/src/Core/Map.h"],
        "boost": ["usr/include/boost/any.hpp", "usr/share/doc/boost/README"],
        "zlib1g-dev": ["usr/include/zlib.h"],
        "linux-libc-dev": ["usr/include/linux/netlink.h"],
        "libglib-dev": ["usr/include/glib.h"],
        "libc6-dev": ["usr/include/stdlib.h"],
    }
    inline = "static inline void clear(char *to, int n) { while (n--) to[n] = 0; }\n"
    for name, files in headers.items():
        text = inline if name.startswith("lib") else "int x;\n"
        ecosystems.write(image.root, dict.fromkeys(files, text))
        image.package(name, files, "zlib" if "zlib" in name else name.removesuffix("-dev"))
    for name in ("libglib", "libc6"):
        ecosystems.write(image.root, {f"{LIBRARY}/{name}.so.1": "library"})
        image.package(name, [f"{LIBRARY}/{name}.so.1"], name)
    ecosystems.write(image.root, {f"{LIBRARY}/libz.so.1": "library"})
    image.package("zlib1g", [f"{LIBRARY}/libz.so.1"], "zlib")
    image.archive("alpha")
    image.program("app/server", "alpha")
    packages = image.scanned()
    doubted = {name for name, package in packages.items() if package.unobservable}
    assert doubted == {"eigen", "boost", "libglib-dev"}
    assert "compiled with the code in its headers" in str(packages["boost"].unobservable)


def _pyinstaller(image: Image) -> None:
    ecosystems.pip(image.base / "venv", "pyinstaller==6.11.1")
    (image.base / "hello.py").write_text("import yaml\nprint(yaml)\n")
    ecosystems.pip(image.base / "venv", "pyyaml")
    ecosystems.run([image.base / "venv/bin/pyinstaller", "--onefile", "--distpath",
                    image.root / "app", "hello.py"], image.base)  # fmt: skip


def _zipapp(image: Image) -> None:
    ecosystems.write(image.base, {"hello/__main__.py": "import yaml\n" * 30})
    (image.root / "app").mkdir()
    ecosystems.run([sys.executable, "-m", "zipapp", "hello", "-p", "/usr/bin/env python3", "-o",
                    image.root / "app/hello"], image.base)  # fmt: skip


@pytest.mark.parametrize("made", [_pyinstaller, _zipapp], ids=["PyInstaller", "zipapp"])
def test_python_in_one_file(image: Image, made: Callable[[Image], None]) -> None:
    ecosystems.run([sys.executable, "-m", "venv", "--without-pip", image.base / "venv"], image.base)
    made(image)
    ecosystems.venv(image.root, "opt/v", "pyyaml")
    image.package("zlib1g", [f"{LIBRARY}/libz.so.1"])
    ecosystems.write(image.root, {f"{LIBRARY}/libz.so.1": "library"})
    packages = image.scanned()
    assert b"/app/hello" in packages["pyyaml"].files
    assert (packages["zlib1g"].unobservable is not None) == (made is _pyinstaller)


def test_the_machines_programs_run(image: Image) -> None:
    """Else the tests above would show nothing."""
    image.archive("alpha")
    assert subprocess.run([image.program("app/server", "alpha")], check=False).returncode in (0, 1)


@pytest.mark.parametrize("how", ["program", "-P", "-p"])
def test_perl_in_one_file(image: Image, how: str) -> None:
    """A program, a script with an archive behind it, and the archive alone."""
    module = "usr/share/perl/5.36.0/Text/Wrap.pm"
    ecosystems.need("pp", "apt-get install libpar-packer-perl")
    ecosystems.write(image.root, {module: "package Text::Wrap;\n" * 20, "app/unrelated.pm": "1;"})
    image.package("perl-modules-5.36", [module], "perl")
    image.package("other", ["usr/share/other/data"])
    ecosystems.write(image.base, {"shop.pl": 'use Text::Wrap;\nprint wrap("", "", "hello");\n'})
    options = [how] if how.startswith("-") else []
    (image.root / "app").mkdir(exist_ok=True)
    ecosystems.run(["pp", *options, "-o", image.root / "app/shop", "shop.pl"], image.base)
    packages = image.scanned()
    assert packages["perl-modules-5.36"].files == (b"/app/shop", f"/{module}".encode())
    assert b"/app/shop" not in packages["other"].files
