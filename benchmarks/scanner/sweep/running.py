"""Runs a program in a root under strace, and takes from it what its language says it loaded."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

OUT = "/tmp/.sweep"  # noqa: S108 - in the root
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CALLS = "open,openat,openat2,creat,execve,execveat"
_OPENED = re.compile(
    rb"(?:<\.\.\. )?(?:open\w*|creat)[ (].*\)\s+= \d+<(?P<path>/[^>]*)>", re.DOTALL
)
_EXECUTED = re.compile(
    rb'execve\("(?P<path>/[^"]+)".*(?:\)\s+= 0|<unfinished \.\.\.>)', re.DOTALL
)  # fmt: skip
_TAGS = ("gem", "r")
_SOURCE = re.compile(r" source: (?:jar:)?file:(/[^!\s]+)")
"""Of a class, as -Xlog:class+load writes it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A process to be run, for the sake of one package."""

    name: str
    probe: tuple[str, ...]
    """``{out}`` stands for where it writes."""
    modules: tuple[str, ...]
    """What it is told to load."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of it; real paths in the root."""

    opened: frozenset[str]
    executed: frozenset[str]
    loaded: frozenset[str]
    """By the language's own word, native libraries by the kernel's."""
    tagged: frozenset[tuple[str, str]]
    """Installers' records that the language names as loaded: gemspecs, R's DESCRIPTIONs."""
    finished: bool


def run(root: Path, case: Case, log: Path, seconds: float) -> Ran:
    """Runs the case; one that takes too long is ended."""
    (root / OUT.lstrip("/")).mkdir(exist_ok=True)
    out, esm = f"{OUT}/out", f"{OUT}/esm"
    for path in (out, esm, f"{out}.jvm"):
        Path(f"{root}{path}").unlink(missing_ok=True)
    command = [word.replace("{out}", out) for word in (*case.probe, *case.modules)]
    env = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "SWEEP_ESM": esm, **case.env}
    process = subprocess.Popen(
        ["strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(log),
         "-e", f"trace={_CALLS}", "chroot", str(root), *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
        start_new_session=True,
    )  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    opened, executed = _traced(root, log)
    loaded, tagged = _told(root, out, esm)
    finished = Path(f"{root}{out}").exists()
    return Ran(opened, executed, loaded, tagged, finished)


def _traced(root: Path, log: Path) -> tuple[frozenset[str], frozenset[str]]:
    opened, executed = set(), set()
    prefix = os.fsencode(root) + b"/"
    with log.open("rb") as lines:
        for line in lines:
            call = line.partition(b" ")[2].strip()
            if match := _OPENED.match(call):
                if match["path"].startswith(prefix):
                    opened.add(os.fsdecode(match["path"][len(prefix) - 1 :]))
            elif match := _EXECUTED.match(call):
                executed.add(os.fsdecode(match["path"]))
    files = {path for path in opened if os.path.isfile(f"{root}{path}")}
    return frozenset(p for p in files if not p.startswith(OUT)), real_paths(root, executed)


def _told(root: Path, out: str, esm: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    paths, tagged = set(), set()
    for line in _lines(f"{root}{out}"):
        tag, _, path = line.partition("\t")
        if tag in _TAGS:
            tagged.add((tag, path))
        elif path.startswith("/") and not path.startswith(OUT):
            paths.add(path)
    for url in _lines(f"{root}{esm}"):
        paths.add(unquote(url.removeprefix("file://")).partition("?")[0])
    for line in _lines(f"{root}{out}.jvm"):
        if (match := _SOURCE.search(line)) and not match[1].startswith(OUT):
            name = line.split("]")[-1].split()[0].replace(".", "/")
            paths.add(f"{match[1]}{name}.class" if match[1].endswith("/") else match[1])
    return real_paths(root, (p.removeprefix(str(root)) for p in paths)), frozenset(tagged)


def _lines(path: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from Path(path).read_text("utf-8", "surrogateescape").splitlines()


def real_paths(root: Path, paths: Iterable[str]) -> frozenset[str]:
    """Without symlinks, each as the kernel resolves it in the root; regular files only."""
    found = set()
    for path in paths:
        real = _resolve(str(root), path)
        if real is not None and os.path.isfile(root.as_posix() + real):
            found.add(real)
    return frozenset(found)


def _resolve(root: str, path: str) -> str | None:
    left, done, links = [*reversed(path.split("/"))], "", 0
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = done.rpartition("/")[0]
            continue
        here = f"{done}/{name}"
        if os.path.islink(root + here):
            links += 1
            if links > 40:
                return None
            target = os.readlink(root + here)
            if target.startswith("/"):
                done = ""
            left += reversed(target.split("/"))
        else:
            done = here
    return done
