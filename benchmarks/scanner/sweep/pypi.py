"""Distributions of PyPI, in the layouts that installers make of them."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.scanner.sweep.records import Dist, Records
from benchmarks.scanner.sweep.running import Case
from tests.support import ecosystems

PROBE = "/tmp/.sweep/python.py"  # noqa: S108 - in the root
_PINS = Path(__file__).parent / "pins"
_MODULES = 24
"""Of each distribution, beside those at its top."""
SKIPPED = re.compile(
    r"(?:^|\.)(?:tests?|testing|conftest|__main__|setup|examples?|_?vendor|antigravity|this"
    r"|benchmarks?|docs?|demos?|templates?|idlelib|turtledemo)(?:\.|$)"
)
MODULE = re.compile(r"((?:[A-Za-z_]\w*/)*[A-Za-z_]\w*)(?:\.pyc?|\.(?:[\w-]+\.)?so)\Z")


_SMALL = (
    "requests==2.32.3", "flask==3.0.3", "pyyaml==6.0.2", "markupsafe==2.1.5", "lxml==5.3.0",
    "zope.interface==6.4", "zope.event==5.0", "six==1.16.0", "typing-extensions==4.12.2",
    "python-dateutil==2.9.0", "attrs==24.2.0", "cffi==1.17.1", "google-auth==2.35.0",
    "azure-core==1.31.0", "protobuf==5.28.2", "ruamel.yaml==0.18.6", "pillow==10.4.0",
    "setuptools==75.1.0", "greenlet==3.1.1", "future==1.0.0", "pyparsing==3.1.4",
    "jaraco.functools==4.1.0", "coverage==7.6.1", "psycopg2-binary==2.9.9", "oslo.config==9.6.0",
)  # fmt: skip
_OLD = (
    "simplejson==3.17.6", "six==1.16.0", "itsdangerous==1.1.0", "MarkupSafe==2.0.1",
    "toolz==0.11.2", "wrapt==1.14.1", "docopt==0.6.2", "termcolor==1.1.0", "PyYAML==5.3.1",
    "ply==3.11", "future==0.18.3", "pycparser==2.21",
)  # fmt: skip
LAYOUTS = ("srv/target", "usr/local/lib/python3.11/dist-packages", "opt/soft", "root/.local",
           "opt/nopyc")  # fmt: skip


def venv(root: Path, work: Path) -> None:
    """Most of them side by side, by uv."""
    home = root / "opt/venv"
    ecosystems.venv(work, "tools", "uv")
    ecosystems.run([sys.executable, "-m", "venv", "--without-pip", home], root)
    install = ["pip", "install", "--quiet", "--link-mode", "copy", "--no-deps"]
    what = ["--python", str(home), "-r", str(_PINS / "pypi.txt")]
    ecosystems.run([work / "tools/bin/uv", *install, *what], work, seconds=900)
    adopt(home)


def adopt(home: Path) -> None:
    """Makes an environment one of the image's Python."""
    for name in ("python", "python3"):
        (home / "bin" / name).unlink()
        (home / "bin" / name).symlink_to("/usr/bin/python3")
    (home / "bin/python3.11").unlink(missing_ok=True)
    (home / "pyvenv.cfg").write_text("home = /usr/bin\n")


def cases(
    records: Records, python: str, below: str, env: Mapping[str, str] | None = None
) -> Iterator[Case]:
    """One process for each distribution below a directory."""
    for dist in records.dists:
        if dist.home.startswith(f"{below}/") and (names := modules(dist)):
            yield Case(dist.name, (python, PROBE, "{out}"), names, env or {})


def modules(dist: Dist) -> tuple[str, ...]:
    """Importable names: those at the top, and some below."""
    found: dict[str, None] = {}
    site = dist.site.rstrip("/") + "/"
    for path in dist.files or ():
        match = MODULE.match(path.removeprefix(site)) if path.startswith(site) else None
        if match and "__pycache__" not in path:
            name = match[1].removesuffix("/__init__").replace("/", ".")
            if not SKIPPED.search(name):
                found[name] = None
    for name in dist.top:
        found.setdefault(name.replace("/", "."), None)
    names = sorted(found, key=lambda name: (name.count("."), name))
    shallow = [name for name in names if "." not in name][:10]
    rest = [name for name in names if "." in name]
    step = max(len(rest) // _MODULES, 1)
    return (*shallow, *rest[::step][:_MODULES])


def layouts(root: Path, work: Path) -> None:
    """The same few in every layout."""
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet",
           "install", "--no-warn-conflicts", "--ignore-installed"]  # fmt: skip
    ecosystems.run([*pip, "--target", root / LAYOUTS[0], *_SMALL], work)
    ecosystems.run([*pip, "--target", root / LAYOUTS[1], *_SMALL], work)
    ecosystems.run([*pip, "--prefix", root / "root/.local", *_SMALL], work)
    ecosystems.uv(root, work, "opt/soft", "symlink", *_SMALL)
    adopt(root / "opt/soft")
    ecosystems.venv(root, "opt/nopyc", "--no-compile", *_SMALL)
    adopt(root / "opt/nopyc")


def eggs(root: Path, work: Path) -> None:
    """By ``setup.py install`` and the old form of pip, as images of some years ago have them."""
    ecosystems.venv(root, "opt/egg", "setuptools==57.5.0", "wheel==0.37.1", "pip==21.3.1")
    python = root / "opt/egg/bin/python"
    sources = work / "sources"
    sources.mkdir()
    ecosystems.run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
                    "--no-build-isolation", "-d", sources, *_OLD], work)  # fmt: skip
    for archive in sorted(sources.iterdir()):
        ecosystems.run(["tar", "--extract", "--file", archive, "--directory", sources], work)
    old = ["-m", "pip", "install", "--no-use-pep517", "--no-build-isolation", "--no-deps", "."]
    ways = (["setup.py", "install"], old,
            ["setup.py", "install", "--single-version-externally-managed", "--root=/"])  # fmt: skip
    folders = sorted(path for path in sources.iterdir() if path.is_dir())
    for number, folder in enumerate(folders):
        ecosystems.run([python, *ways[number % len(ways)]], folder)
    adopt(root / "opt/egg")


def layout_cases(records: Records) -> Iterator[Case]:
    """One process for each distribution of each layout."""
    for place in LAYOUTS:
        site = (
            "/root/.local/lib/python3.11/site-packages" if place == "root/.local" else f"/{place}"
        )
        if place.startswith("opt/"):
            yield from cases(records, f"/{place}/bin/python", f"/{place}")
        else:
            yield from cases(records, "/usr/bin/python3", f"/{place}", {"PYTHONPATH": site})
