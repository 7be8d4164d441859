"""Three ways to tell which packages a set of used files makes used."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from benchmarks.scanner.witness import Name
from vexstream.claims import OS_TYPES
from vexstream.evidence import FileUse, Use
from vexstream.identity import Digest
from vexstream.identity import Image as ImageName
from vexstream.scan import Package, Scan
from vexstream.usage import FileIndex, Usage

_ANY = ImageName(Digest("sha256:" + "0" * 64))


def ours(
    packages: tuple[Package, ...], opened: Collection[str], executed: Collection[str]
) -> tuple[set[Name], set[Name]]:
    """By our map: packages in use, and those of which it says that it cannot know."""
    scan = Scan(_ANY, 0, packages=packages)
    uses = dict.fromkeys(opened, Use.OPENED) | dict.fromkeys(executed, Use.EXECUTED)
    files = {
        path.encode("utf-8", "surrogateescape"): FileUse(use, 0, ()) for path, use in uses.items()
    }
    usage = Usage(FileIndex(scan))
    usage.add(files.items())
    used, doubts = usage.packages(), usage.doubts()
    unknown = {p.id for p in packages if p.unobservable is not None or p.id in doubts} - used.keys()
    names = {p.id: (p.type, p.name.lower()) for p in packages}
    return {names[i] for i in used}, {names[i] for i in unknown}


def contains_edges(document: Mapping[str, Any], files: Collection[str]) -> set[Name]:
    """By Syft's own relations between packages and files, paths as Syft spells them."""
    names = _names(document)
    paths = {file["id"]: file["location"]["path"] for file in document.get("files", [])}
    return {
        names[edge["parent"]]
        for edge in document["artifactRelationships"]
        if edge["type"] == "contains"
        and edge["parent"] in names
        and paths.get(edge["child"]) in files
    }


def kubescape(document: Mapping[str, Any], files: Collection[str]) -> set[Name]:
    """As DESIGN.md, section 1, describes it.

    A package is used when a file that is evident of it was (for Python its dist-info, for npm its
    package.json, for a deb dpkg's database), or when a file that it contains was; and with it
    every package on which it depends.
    """
    names = _names(document)
    used = {
        artifact["id"]
        for artifact in document["artifacts"]
        if any(place["path"] in files for place in artifact["locations"])
    }
    system = {a["id"] for a in document["artifacts"] if a["type"] in OS_TYPES}
    paths = {file["id"]: file["location"]["path"] for file in document.get("files", [])}
    needs: dict[str, list[str]] = defaultdict(list)
    for edge in document["artifactRelationships"]:
        if edge["type"] == "dependency-of":
            needs[edge["child"]].append(edge["parent"])
        elif (
            edge["type"] == "contains"
            and edge["parent"] in system
            and paths.get(edge["child"]) in files
        ):
            used.add(edge["parent"])
    waiting = list(used)
    while waiting:
        for needed in needs[waiting.pop()]:
            if needed not in used:
                used.add(needed)
                waiting.append(needed)
    return {names[identity] for identity in used if identity in names}


def _names(document: Mapping[str, Any]) -> dict[str, Name]:
    return {a["id"]: (a["type"], a["name"].lower()) for a in document["artifacts"]}
