"""The demo's result is right: strace sees the same run and finds nothing that was missed.

strace follows containerd and everything it starts, so it sees the system calls of the very
container that the collector watches. Which package owns a file is asked of the lists that dpkg
and pip left in the image, read by the image's own Python. None of our own mapping is involved.
"""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from schemas.batches import decode_batch
from services.common.topics import Topic
from services.local.containerd import Container
from services.local.image_archive import ImageArchive
from services.local.live import LiveRun, live_run
from services.local.recording import About, read, record
from services.local.tools import obstacles, workspace

pytestmark = pytest.mark.real

_CALLS = "open,openat,openat2,creat,execve,execveat,clone,clone3,fork,vfork"
_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>.*)\Z", re.DOTALL)
_OPENED = re.compile(r"(?:open|openat|openat2|creat)\(.*\)\s+= \d+<(?P<path>/.*)>\Z", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (?:open\w*|creat) resumed>.*\)\s+= \d+<(?P<path>/.*)>\Z", re.DOTALL)
_EXECUTED = re.compile(
    r'execve\("(?P<path>/[^"]+)".*(?:\)\s+= 0| <unfinished \.\.\.>)\Z', re.DOTALL
)
_BORN = re.compile(r"(?:clone3?|v?fork).*\s= \d+ /\* (?P<thread>\d+) in strace's PID NS \*/")
_BYTECODE = re.compile(r"(.*/)__pycache__/([^/]+)\.cpython-\d+\.pyc\Z")
_NEVER_USE = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug)/|/var/lib/dpkg/|\.(dist|egg)-info/"
)
"""What is no use of a package by common consent."""
_ENTRY_POINT = "/opt/app/venv/bin/python"
_WHO_OWNS_WHAT = """
import glob, importlib.metadata, json, os, sys
real = lambda p: os.path.realpath(p)
owned = {}
for path in glob.glob("/var/lib/dpkg/info/*.list"):
    name = "deb/" + os.path.basename(path)[:-5].split(":")[0]
    listed = open(path).read().splitlines()
    owned[name] = [real(p) for p in listed if os.path.isfile(p) and not os.path.islink(p)]
for found in importlib.metadata.distributions():
    name = "pypi/" + found.metadata["Name"].lower().replace("_", "-")
    owned[name] = [real(found.locate_file(f)) for f in found.files or ()]
print(json.dumps({"owned": owned, "executed": [real(p) for p in sys.argv[1:]]}))
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """One run with both pairs of eyes: files are paths in the container."""

    seen_by_strace: set[str]
    seen_by_us: set[str]
    owned: dict[str, list[str]]
    statuses: dict[str, set[str]]
    """Package (``deb/<name>``, ``pypi/<name>``) -> the statuses of its statements."""

    def owners(self, files: set[str]) -> set[str]:
        """The packages that own one of the files, going by dpkg and pip."""
        sources = {_BYTECODE.sub(r"\1\2.py", file) for file in files if not _NEVER_USE.search(file)}
        return {name for name, owned in self.owned.items() if sources & set(owned)}


@pytest.fixture(scope="module")
def findings(demo_image: ImageArchive) -> Findings:
    if why := obstacles():
        pytest.skip("no live run here: " + "; ".join(why))
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    with (
        workspace() as directory,
        live_run(directory, demo_image, learning_period_seconds=8) as run,
    ):
        log = directory / "strace.log"
        with _strace(_containerd_process(run), log):
            container = run.run_application()
            for path in ("/", "/healthz", "/fetch"):
                run.visit(path)
            run.learn(lambda *_: None)
            document = json.loads(run.document())
            ours = asyncio.run(_files_of_evidence(run, directory / "run.avro"))
        opened, executed = _read_strace(log)
        owned, executed = _ask_the_image(run, container, sorted(executed))
        everything = {path for paths in owned.values() for path in paths}
        statuses: dict[str, set[str]] = {}
        for statement in document["statements"]:
            purl = statement["products"][0]["subcomponents"][0]["@id"]
            statuses.setdefault(_package(purl), set()).add(statement["status"])
        of_image = {
            path for path in opened | executed if _BYTECODE.sub(r"\1\2.py", path) in everything
        }
        return Findings(of_image, ours, owned, statuses)


def test_strace_saw_the_application_at_work(findings: Findings) -> None:
    """The witness is awake: otherwise the tests below would prove nothing."""
    used = findings.owners(findings.seen_by_strace)
    assert {"pypi/flask", "pypi/jinja2", "pypi/requests", "deb/libc6"} <= used
    assert len(findings.seen_by_strace) > 200


def test_no_package_that_was_used_is_ruled_out(findings: Findings) -> None:
    used = findings.owners(findings.seen_by_strace)
    ruled_out = {name for name, found in findings.statuses.items() if "not_affected" in found}
    assert ruled_out
    assert sorted(used & ruled_out) == []


def test_no_package_is_called_affected_that_was_not_used(findings: Findings) -> None:
    used = findings.owners(findings.seen_by_strace)
    affected = {name for name, found in findings.statuses.items() if "affected" in found}
    assert affected
    assert sorted(affected - used) == []


def test_every_file_that_strace_saw_is_evidence(findings: Findings) -> None:
    assert sorted(findings.seen_by_strace - findings.seen_by_us) == []


def test_evidence_beyond_strace_is_what_the_kernel_itself_opens(findings: Findings) -> None:
    """The dynamic loader is mapped at exec, without a system call that strace could show."""
    everything = {path for paths in findings.owned.values() for path in paths}
    beyond = {path for path in findings.seen_by_us - findings.seen_by_strace if path in everything}
    assert all("/ld-linux" in path for path in beyond), beyond


@contextlib.contextmanager
def _strace(process: int, log: Path) -> Iterator[None]:
    command = ["strace", "-f", "-y", "--pidns-translation", "-s", "4096", "-o", str(log)]
    with subprocess.Popen(
        [*command, "-e", f"trace={_CALLS}", "-p", str(process)], stderr=subprocess.PIPE
    ) as strace:
        assert strace.stderr is not None
        first = strace.stderr.readline()
        assert b"attached" in first, first
        try:
            yield
        finally:
            strace.terminate()
            strace.communicate(timeout=30)


def _containerd_process(run: LiveRun) -> int:
    """The process id of the run's own containerd."""
    config = str(run.containerd.state / "config.toml").encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"containerd") and config in command:
                return int(entry.name)
    raise AssertionError("the run's containerd is not running")


def _read_strace(log: Path) -> tuple[set[str], set[str]]:
    """Files opened and programs executed by the application and what it started."""
    inside: set[str] = set()
    opened: set[str] = set()
    executed: set[str] = set()
    for line in log.read_text("utf-8", "surrogateescape").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, call = match["thread"], match["call"]
        program = _EXECUTED.match(call)
        if program and program["path"] == _ENTRY_POINT:
            inside.add(thread)
        if thread not in inside:
            continue
        if program:
            executed.add(program["path"])
        if found := _OPENED.match(call) or _RESUMED.match(call):
            opened.add(found["path"])
        if born := _BORN.search(call):
            inside.add(born["thread"])
    return opened, executed


def _ask_the_image(
    run: LiveRun, container: Container, executed: list[str]
) -> tuple[dict[str, list[str]], set[str]]:
    answer = run.containerd.exec(container, [_ENTRY_POINT, "-c", _WHO_OWNS_WHAT, *executed])
    assert answer.exit_code == 0, answer.stderr
    told = json.loads(answer.stdout)
    return told["owned"], set(told["executed"])


async def _files_of_evidence(run: LiveRun, file: Path) -> set[str]:
    """Every path that the collector has published for the application's container."""
    await record(run.stack.settings, About("", "", "", run.digest, 0), file)
    _, records = read(file)
    return {
        access.path.decode("utf-8", "surrogateescape")
        for item in records
        if item.topic is Topic.FILE_ACCESS
        for access in decode_batch(item.value).accesses
    }


def _package(purl: str) -> str:
    kind, _, rest = purl.removeprefix("pkg:").partition("/")
    return f"{kind}/{unquote(rest.rsplit('/', 1)[-1]).partition('@')[0].lower()}"
