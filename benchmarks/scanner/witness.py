"""What was used, by strace; whose it is, by what the installers left: none of our own mapping."""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Name = tuple[str, str]
"""Syft's package type and the package's name in lower case."""

_CALLS = "open,openat,openat2,creat,execve,execveat"
_OPENED = re.compile(r"(?:<\.\.\. )?(?:open\w*|creat)[ (].*\)\s+= \d+<(?P<path>/[^>]*)>", re.DOTALL)
_EXECUTED = re.compile(r'execve\("(?P<path>/[^"]+)".*(?:\)\s+= 0|<unfinished \.\.\.>)', re.DOTALL)
_BYTECODE = re.compile(r"(.*/)__pycache__/([^/]+)\.cpython-\d+(?:\.opt-\d)?\.pyc\Z")
_NO_USE = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug)/|/var/lib/dpkg/|\.(dist|egg)-info/"
)
"""What is no use of a package by common consent."""
_NPM = ("/usr/share/nodejs/", "/srv/app/")
"""Debian's npm packages, and the application."""
_ASK = """
import glob, importlib.metadata, json, os, sys
owned, real = {}, os.path.realpath
for path in glob.glob("/var/lib/dpkg/info/*.list"):
    name = "deb " + os.path.basename(path)[:-5].split(":")[0]
    listed = open(path).read().splitlines()
    owned[name] = [real(p) for p in listed if os.path.isfile(p) and not os.path.islink(p)]
sites = glob.glob("/opt/*/lib/python3*/site-packages") + ["/usr/lib/python3/dist-packages"]
for found in importlib.metadata.distributions(path=sites):
    name = "python " + found.metadata["Name"].lower().replace("_", "-").replace(".", "-")
    owned.setdefault(name, []).extend(real(found.locate_file(f)) for f in found.files or ())
executed = {p: real(p) for p in json.load(sys.stdin)}
print(json.dumps({"owned": owned, "executed": executed}))
"""


def used_files(root: Path, command: Sequence[str], log: Path) -> tuple[set[str], set[str]]:
    """Runs a command in the root; the regular files it opened, and the programs it executed."""
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "4096", "-o", str(log), "-e", f"trace={_CALLS}",
         "chroot", str(root), *command],
        capture_output=True, check=False, timeout=120, env={"PATH": "/usr/bin:/bin:/usr/sbin"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-1000:]}")
    opened, executed = set(), set()
    for line in log.read_text("utf-8", "surrogateescape").splitlines():
        _, _, call = line.partition(" ")
        if match := _OPENED.match(call.strip()):
            path = match["path"]
            if path.startswith(f"{root}/") and os.path.isfile(path):
                opened.add(path.removeprefix(str(root)))
        elif match := _EXECUTED.match(call.strip()):
            executed.add(match["path"])
    executed = {path for path in executed if os.path.lexists(f"{root}{path}")}
    return opened, executed


_RUBYGEMS = re.compile(r"/vendor_ruby/rubygems(?:/|\.rb)")
"""RubyGems itself, which Ruby loads at every start: its gem is rubygems-update, and the record
of that in Debian names no files."""


class Owners:
    """Whose a file is, going by dpkg's lists, pip's records and the other ecosystems' folders."""

    def __init__(self, root: Path, executed: Iterable[str]) -> None:
        self._root = root
        done = subprocess.run(
            ["chroot", str(root), "/usr/bin/python3", "-c", _ASK],
            input=json.dumps(sorted(executed)), capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout)
        self.executed: Mapping[str, str] = told["executed"]
        """Program as it was called -> without symlinks."""
        self._listed: dict[str, set[Name]] = {}
        for name, paths in told["owned"].items():
            package_type, _, package = name.partition(" ")
            for path in paths:
                self._listed.setdefault(path, set()).add((package_type, package))

    def of(self, files: Iterable[str]) -> set[Name]:
        """The packages that own one of the files."""
        found: set[Name] = set()
        for file in files:
            if _NO_USE.search(file):
                continue
            found |= self._listed.get(_BYTECODE.sub(r"\1\2.py", file), set())
            found |= self._of_folder(file)
        return found

    def _of_folder(self, file: str) -> set[Name]:
        if file.startswith(_NPM):
            return self._npm(file)
        if _RUBYGEMS.search(file):
            return {("gem", "rubygems-update")}
        if match := re.search(r"/gems/([^/]+)-\d[^/]*/", file):
            return {("gem", match[1])}
        if match := re.search(
            r"/ruby/3\.\d\.0/(?:[^/]+-linux[^/]*/)?([a-z_]+)(?:/|\.rb|\.so)", file
        ):
            return {("gem", match[1].replace("_", "-")), ("gem", match[1])}
        if match := re.search(r"/vendor/([^/]+/[^/]+)/", file):
            return {("php-composer", match[1])} if not match[1].startswith("composer/") else set()
        if file.endswith(".jar") and file.startswith("/opt/"):
            return self._jar(file)
        if file.startswith("/usr/local/bin/"):
            return self._go(file)
        return set()

    def _npm(self, file: str) -> set[Name]:
        folder = Path(file).parent
        while f"{folder}/".startswith(_NPM):
            manifest = Path(f"{self._root}{folder}/package.json")
            if manifest.exists() and "version" in (document := json.loads(manifest.read_bytes())):
                return {("npm", document["name"].lower())}
            folder = folder.parent
        return set()

    def _jar(self, file: str) -> set[Name]:
        with zipfile.ZipFile(f"{self._root}{file}") as archive:
            names = re.findall(r"META-INF/maven/[^/]+/([^/]+)/", " ".join(archive.namelist()))
        stem = re.split(r"-\d", Path(file).stem)[0]
        return {("java-archive", name.lower()) for name in (*names, stem)}

    def _go(self, file: str) -> set[Name]:
        done = subprocess.run(
            ["go", "version", "-m", f"{self._root}{file}"], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        modules = re.findall(r"^\t(?:mod|dep)\t(\S+)", done.stdout, re.MULTILINE)
        return {
            ("go-module", name.lower()) for name in (*modules, *(["stdlib"] if modules else []))
        }
