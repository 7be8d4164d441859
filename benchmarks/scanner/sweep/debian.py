"""Debian's own packages of languages; each language says what it loaded."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.scanner.sweep import pypi
from benchmarks.scanner.sweep.records import Records
from benchmarks.scanner.sweep.running import Case
from services.local import image_base

_T = "/tmp/.sweep"  # noqa: S108 - in the root
_MOST = 30
_PINS = Path(__file__).parent / "pins"


def fill(root: Path, work: Path) -> None:
    """By apt, from the archive with which this machine is set up."""
    del work
    for name in ("sources.list", "sources.list.d", "apt.conf.d"):
        here, there = Path("/etc/apt", name), root / "etc/apt" / name
        if here.is_dir():
            shutil.copytree(here, there, dirs_exist_ok=True)
        elif here.exists():
            shutil.copy(here, there)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    names = (_PINS / "debian.txt").read_text().split()
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "-o",
               "Dpkg::Options::=--force-unsafe-io", *names]  # fmt: skip
    for command in (["apt-get", "update"], ["env", "DEBIAN_FRONTEND=noninteractive", *install],
                    ["apt-get", "clean"]):  # fmt: skip
        image_base.run_inside(root, command)
    (root / "usr/sbin/policy-rc.d").unlink()


def _python(files: Sequence[str]) -> list[str]:
    top = "/usr/lib/python3/dist-packages/"
    names = []
    for path in files:
        match = pypi.MODULE.match(path.removeprefix(top)) if path.startswith(top) else None
        if match and not pypi.SKIPPED.search(match[1].replace("/", ".")):
            names.append(match[1].removesuffix("/__init__").replace("/", "."))
    return names


def _ruby(files: Sequence[str]) -> list[str]:
    return _below(files, r".*/(?:vendor_ruby|gems/[^/]+/lib)/(?:3\.1\.0/)?(.+?)\.(?:rb|so)\Z")


def _perl(files: Sequence[str]) -> list[str]:
    return _below(files, r"/usr/(?:share/perl5|lib/[^/]+/perl5/5\.36)/(.+\.pm)\Z")


def _php(files: Sequence[str]) -> list[str]:
    return _below(files, r"(/usr/share/php/.+\.php)\Z")


def _r(files: Sequence[str]) -> list[str]:
    return _below(files, r"/usr/lib/R/(?:site-)?library/([^/]+)/DESCRIPTION\Z")


def _below(files: Sequence[str], pattern: str) -> list[str]:
    found = [match[1] for file in files if (match := re.match(pattern, file))]
    return [
        name
        for name in found
        if not re.search(r"(?:^|/)(?:tests?|spec|generators?|templates?)/", name, re.I)
    ]


_LANGUAGES: Sequence[tuple[Callable[[Sequence[str]], list[str]], tuple[str, ...]]] = (
    (_python, ("/usr/bin/python3", f"{_T}/python.py", "{out}")),
    (_ruby, ("/usr/bin/ruby", f"{_T}/ruby.rb", "{out}")),
    (_perl, ("/usr/bin/perl", f"{_T}/perl.pl", "{out}")),
    (_php, ("/usr/bin/php", f"{_T}/php.php", "{out}")),
    (_r, ("/usr/bin/Rscript", "--vanilla", f"{_T}/r.R", "{out}")),
)


def cases(records: Records) -> Iterator[Case]:
    """One process for each package with modules of a language."""
    for name, files in sorted(records.debs.items()):
        for find, command in _LANGUAGES:
            names = sorted(set(find(files)), key=lambda n: (n.count("/") + n.count("."), n))
            if names:
                step = max(len(names) // _MOST, 1)
                modules = (*names[:5], *names[5::step][:_MOST])
                yield Case(f"{name} ({command[0][9:]})", command, modules)
