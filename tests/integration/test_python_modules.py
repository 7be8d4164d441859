"""Modules of Python compiled by Cython, mypyc and Nuitka: copies run.

Made by the real tools out of a package that is installed beside them, and held against strace.
"""

import asyncio
import marshal
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner import mapping
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems, mapped
from tests.support.slow import slow

pytestmark = pytest.mark.real

PLENTY = 1 << 40
_NEWS = "import sys\nsys.dont_write_bytecode = True\nfrom idna import intranges\nprint(intranges)\n"


def _tool(work: Path, *wanted: str) -> Path:
    ecosystems.need("gcc", "apt-get install gcc")
    ecosystems.venv(work, "tools", *wanted)
    return work / "tools/bin"


def _copy(root: Path, to: Path) -> None:
    shutil.copytree(root / "opt/site/idna", to / "idna", dirs_exist_ok=True)
    for path in to.glob("idna/*"):
        if path.name not in ("__init__.py", "intranges.py"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (to / "idna/__init__.py").write_text("")


def cython(root: Path, work: Path) -> Path:
    tools = _tool(work, "cython==3.0.12", "setuptools==75.8.0")
    _copy(root, work)
    ecosystems.run([tools / "cythonize", "-i", "-3", work / "idna/intranges.py"], work)
    return _moved(work, root / "app/idna", "idna/intranges.*.so")


def mypyc(root: Path, work: Path) -> Path:
    tools = _tool(work, "mypy==1.15.0", "setuptools==75.8.0")
    _copy(root, work)
    ecosystems.run([tools / "mypyc", "idna/intranges.py"], work)
    return _moved(work, root / "app/idna", "idna/intranges.*.so")


def nuitka(root: Path, work: Path) -> Path:
    tools = _tool(work, "nuitka==2.6.9")
    _copy(root, work)
    (work / "shop.py").write_text("import idna.intranges\n")
    ecosystems.run([tools / "python", "-m", "nuitka", "--module", "--include-package=idna",
                    "--nofollow-import-to=typing", "shop.py"], work)  # fmt: skip
    return _moved(work, root / "app", "shop*.so")


def _moved(work: Path, to: Path, pattern: str) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    if to.name == "idna":
        (to / "__init__.py").touch()
    for shared in work.glob("idna/*__mypyc*.so"):  # what the module only calls
        shutil.copy(shared, to)
    [made] = work.glob(pattern)
    ecosystems.run(["strip", made], work)
    return Path(shutil.copy(made, to))


@pytest.mark.parametrize("make", [cython, mypyc, pytest.param(nuitka, marks=slow)])
def test_the_copy_runs_and_belongs_to_its_package_only(
    make: Callable[[Path, Path], Path], syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    site = ecosystems.venv(root, "opt/v", "idna==3.7", "six==1.16.0")
    (root / "opt/site").symlink_to(site)
    held = make(root, work)
    first = "import shop\n" if held.name.startswith("shop") else ""
    ecosystems.need("strace", "apt-get install strace")
    log = work / "strace.log"
    script = f"import sys; sys.path.insert(0, {str(root / 'app')!r})\n{first}{_NEWS}"
    ecosystems.run(["strace", "-f", "-o", log, "-e", "trace=open,openat",
                    root / "opt/v/bin/python", "-c", script], work)  # fmt: skip
    opened = re.findall(r'"([^"]+)", O_RDONLY[^=]*= \d', log.read_text("utf-8", "replace"))
    assert str(held) in opened
    assert str(site / "idna/intranges.py") not in opened
    (root / "opt/site").unlink()
    layer, layout = work / "layer.tar", work / "oci"
    layer_of_directory(root, layer)
    shutil.unpack_archive(
        write_archive(work / "image.tar", "localhost/m:1", [layer], ImageConfig()).path, layout
    )
    tools = Tools(ScannerSettings(syft=str(syft), grype=sys.executable))
    document = asyncio.run(tools.sbom(layout, work)).read_bytes()
    _, packages = mapping.packages(document, unpack([layer], PLENTY), [layer], PLENTY, work)
    inside = f"/{held.relative_to(root)}".encode()
    assert {package.name for package in packages if inside in package.files} == {"idna"}


FROZEN = """
#include <Python.h>
static const unsigned char package[] = {%s};
static const unsigned char module[] = {%s};
static const struct _frozen mine[] = {
  {.name = "idna", .code = package, .size = sizeof package, .is_package = 1},
  {.name = "idna.intranges", .code = module, .size = sizeof module}, {0}};
int main(void) {
  PyImport_FrozenModules = mine;
  Py_Initialize();
  return PyRun_SimpleString("from idna import intranges; print(intranges)");
}
"""


def test_a_program_with_frozen_modules_belongs_to_their_packages(
    syft: Path, tmp_path: Path
) -> None:
    """As Tools/freeze of CPython makes it: arrays of marshalled code."""
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root / "app", work):
        folder.mkdir(parents=True)
    headers, libraries = sysconfig.get_path("include"), sysconfig.get_config_var("LIBDIR")
    if not (Path(headers) / "Python.h").exists():
        pytest.skip("Python.h is not there: apt-get install libpython3-dev")
    site = ecosystems.venv(root, "opt/v", "idna==3.7", "six==1.16.0")
    arrays = []
    for source in ("", (site / "idna/intranges.py").read_text()):
        path = site / "idna/intranges.py" if source else site / "idna/__init__.py"
        arrays.append(",".join(map(str, marshal.dumps(compile(source, path, "exec")))))
    ecosystems.write(work, {"shop.c": FROZEN % tuple(arrays)})
    ecosystems.need("gcc", "apt-get install gcc")
    ecosystems.run(["gcc", "-s", "-O2", f"-I{headers}", "shop.c", "-o", root / "app/shop",
                    f"-L{libraries}", f"-lpython{sys.version_info.major}.{sys.version_info.minor}",
                    "-lm", "-ldl", "-lutil", "-lpthread", "-rdynamic"], work)  # fmt: skip
    used = mapped.opened(root, work, [str(root / "app/shop")])
    assert b"/app/shop" in used
    assert not any(b"/idna/" in path for path in used)
    packages = mapped.packages(root, work, syft)
    assert {package.name for package in packages if b"/app/shop" in package.files} == {"idna"}


def test_modules_that_were_renamed_are_told_by_what_they_say(syft: Path, tmp_path: Path) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root / "app", work):
        folder.mkdir(parents=True)
    site = ecosystems.venv(root, "opt/v", "itsdangerous==2.2.0", "six==1.16.0")
    tools = _tool(work, "cython==3.0.12", "setuptools==75.8.0")
    source = (site / "itsdangerous/serializer.py").read_text().replace("from .", "from shop_")
    (work / "shop_kept.py").write_text(source)
    ecosystems.run([tools / "cythonize", "-i", "-3", work / "shop_kept.py"], work)
    [made] = work.glob("shop_kept.*.so")
    ecosystems.run(["strip", made], work)
    made.rename(root / "app/shop_kept.so")
    packages = mapped.packages(root, work, syft)
    held = {package.name for package in packages if b"/app/shop_kept.so" in package.files}
    assert held == {"itsdangerous"}
