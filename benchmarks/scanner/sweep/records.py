"""Whose a file is, by what the installers left: none of our own mapping.

Keys name a package as its installer knows it: a deb by its name, a Python distribution by the
directory of its record, an npm package by its directory, a gem by its gemspec, an R package by its
DESCRIPTION. ``Artifacts`` finds what Syft made of each.
"""

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Key = tuple[str, str]
"""Syft's package type, and how the installer knows the package."""

_BYTECODE = re.compile(r"(.*/)__pycache__/([^/]+)\.cpython-\d+(?:\.opt-\d)?\.pyc\Z")
_NO_USE = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug)/|/var/lib/dpkg/|\.(dist|egg)-info(/|\Z)"
)
_NPM_HOME = re.compile(r".*/(?:node_modules|usr/share/nodejs)/(?:@[^/]+/)?[^/]+", re.DOTALL)
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EXPLODED = re.compile(r"/opt/exploded/([^/]+)/")
_ASK = """
import glob, importlib.metadata, json, os, subprocess
real = os.path.realpath
debs, dists = {}, {}
for path in glob.glob("/var/lib/dpkg/info/*.list"):
    name = os.path.basename(path)[:-5].split(":")[0]
    listed = open(path, errors="surrogateescape").read().splitlines()
    there = [p for p in listed if os.path.isfile(p) and not os.path.islink(p)]
    debs.setdefault(name, []).extend(real(p) for p in there)
asked = ["dpkg-query", "--show", "--showformat=${Package} ${source:Package}\\n"]
told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
sources = dict(line.split() for line in told.splitlines())
sites = set()
for top in ("/opt", "/srv", "/usr/lib/python3", "/usr/local/lib", "/root", "/home", "/app"):
    for folder, folders, files in os.walk(top):
        if any(n.endswith((".dist-info", ".egg-info", ".egg")) for n in folders + files):
            sites.add(folder)
        if folder.endswith(".egg"):
            sites.add(folder)
for site in sorted(sites):
    for found in importlib.metadata.distributions(path=[site]):
        home = str(found._path)
        if not home.startswith("/"):
            continue
        files = None if found.files is None else [
            real(p) for p in (os.fspath(found.locate_file(f)) for f in found.files)
            if os.path.isfile(p)
        ]
        text = found.read_text("top_level.txt")
        top = text.split() if text else []
        dists[home] = {"name": found.metadata["Name"], "version": found.version,
                       "files": files, "top": top, "site": site}
print(json.dumps({"debs": debs, "sources": sources, "dists": dists}))
"""


@dataclass(frozen=True, slots=True)
class Dist:
    """A Python distribution, by its record."""

    home: str
    name: str
    files: Sequence[str] | None
    """Real paths; None where the installer keeps no list."""
    top: Sequence[str]
    site: str


class Records:
    """The records of one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        done = subprocess.run(
            ["chroot", str(root), "/usr/bin/python3", "-I", "-c", _ASK], capture_output=True,
            text=True, check=True, env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        told = json.loads(done.stdout)
        self.dists = [
            Dist(home, d["name"] or "", d["files"], d["top"], d["site"])
            for home, d in told["dists"].items()
        ]
        self.debs: Mapping[str, Sequence[str]] = told["debs"]
        self._listed: dict[str, set[Key]] = defaultdict(set)
        self._sources: dict[str, set[str]] = defaultdict(set)
        """Of the debs that brought a file or a record."""
        homes = {dist.home for dist in self.dists}
        for name, paths in self.debs.items():
            for path in paths:
                self._listed[path].add(("deb", name))
                folder = path.rpartition("/")[0]
                for place in (path, folder) if folder in homes else (path,):
                    self._sources[place].add(told["sources"].get(name, name))
        self._unlisted: dict[tuple[str, str], list[str]] = defaultdict(list)
        for dist in self.dists:
            if dist.files is None:
                for module in dist.top:
                    self._unlisted[dist.site, module].append(dist.home)
            for path in dist.files or ():
                if not _NO_USE.search(path):
                    self._listed[path].add(("python", dist.home))
        self._npm = cache(self._npm_home)

    def of(self, files: Iterable[str]) -> set[Key]:
        """The packages that own one of the files."""
        found: set[Key] = set()
        for file in files:
            if _NO_USE.search(file):
                continue
            source = _BYTECODE.sub(r"\1\2.py", file)
            found |= self._listed.get(file, set()) | self._listed.get(source, set())
            found |= self._by_module(source)
            if file.endswith((".jar", ".war")):
                found.add(("java-archive", file))
            elif match := _EXPLODED.match(file):
                found.add(("java-archive", f"/opt/java/lib/{match[1]}.jar"))
            if match := _NPM_HOME.match(file):
                found |= self._npm(match[0], file)
        return found

    def _by_module(self, source: str) -> set[Key]:
        """By top_level.txt, where there is no list: of a namespace (``google``) of several
        debs what came from its own source."""
        folder, found, brought = source, set(), self._sources.get(source)
        while "/" in folder[1:]:
            folder, _, name = folder.rpartition("/")
            homes = self._unlisted.get((folder, name.partition(".")[0]), ())
            for home in homes:
                ours = self._sources.get(home)
                if not (ours and brought and ours.isdisjoint(brought)):
                    found.add(("python", home))
        return found

    def _npm_home(self, home: str, file: str) -> set[Key]:
        folder = home
        while folder:
            manifest = Path(f"{self._root}{folder}/package.json")
            if manifest.is_file():
                try:
                    document = json.loads(manifest.read_bytes())
                except ValueError:
                    return set()
                if document.get("name") and document.get("version"):
                    return {("npm", folder)}
            folder = folder.rpartition("/")[0]
            match = _NPM_HOME.match(folder)
            folder = match[0] if match else ""
        return set()


class Artifacts:
    """Syft's artifacts, by the keys of the installers."""

    def __init__(self, document: Mapping[str, Any], root: Path) -> None:
        self.names: dict[str, str] = {}
        self._of: dict[Key, set[str]] = defaultdict(set)
        self._root = root
        self._of_inode: dict[int, set[str]] = defaultdict(set)
        for artifact in document["artifacts"]:
            identity, kind = artifact["id"], artifact["type"]
            self.names[identity] = f"{kind}:{artifact['name']}@{artifact['version']}"
            if kind == "deb":
                self._of["deb", artifact["name"]].add(identity)
            for place in artifact["locations"]:
                for path in {place["path"], place.get("accessPath") or place["path"]}:
                    for key in _keys(kind, path):
                        self._of[key].add(identity)
                    if kind == "npm" and (number := _inode(Path(f"{root}{path}"))):
                        self._of_inode[number].add(identity)

    def of(self, keys: Iterable[Key]) -> tuple[set[str], set[Key]]:
        """Ids of the artifacts, and the packages of which Syft has none."""
        found: set[str] = set()
        unknown = set()
        for key in keys:
            ids = self._of.get(key) or self._linked(key)
            found |= ids
            if not ids:
                unknown.add(key)
        return found, unknown

    def _linked(self, key: Key) -> set[str]:
        """By the file of the manifest: of its hard links Syft has one place."""
        kind, place = key
        number = _inode(Path(f"{self._root}{place}/package.json")) if kind == "npm" else 0
        return self._of_inode.get(number, set())


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except OSError:
        return 0


def _keys(kind: str, path: str) -> Iterable[Key]:
    folder, _, name = path.rpartition("/")
    if kind == "python":
        yield kind, folder
        yield kind, path  # distutils' single file
    elif kind == "npm" and name == "package.json":
        yield kind, folder
    elif kind in ("gem", "R-package", "java-archive"):
        yield kind, path
