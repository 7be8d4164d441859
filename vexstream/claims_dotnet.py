"""What a NuGet package claims: the assemblies that ``<application>.deps.json`` lists for it.

The file is what the .NET host itself goes by. ``dotnet publish`` puts the assemblies of
``runtime`` and ``native`` beside it under their own names, those of ``resources`` in a folder of
their language, and those of ``runtimeTargets`` where they are in the package.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from vexstream.imagefiles import Claim, Image, spell_all
from vexstream.sbom import Artifact

_SUFFIX = ".deps.json"


def nuget(artifact: Artifact, image: Image) -> Claim:
    """The package's assemblies, of every application that lists them."""
    lists = [place for place in artifact.locations if place.endswith(_SUFFIX)]
    if not lists:
        return Claim(incomplete="the list of its assemblies is not known")
    paths: list[bytes] = []
    incomplete = None
    for place in lists:
        assets = [
            asset
            for spelt in spell_all(image, [place])
            for asset in _assets(image.contents.get(spelt, b""), artifact)
        ]
        home = posixpath.dirname(place)
        listed = spell_all(image, (posixpath.join(home, asset) for asset in assets))
        paths += listed
        if not assets:
            incomplete = f"{place} lists no assembly of it"
        elif not any(map(image.root.is_file, listed)):
            incomplete = f"{place} lists assemblies of it that lie elsewhere"
    return Claim(paths, incomplete)


def runtime(artifact: Artifact, image: Image) -> Claim:
    """The directory of the shared runtime, of which Syft names the assemblies that no list has."""
    folders = {posixpath.dirname(place) for place in spell_all(image, artifact.locations)}
    homes = {image.root.realpath(folder) for folder in folders} - {None, b"/"}
    paths = [path for home in sorted(filter(None, homes)) for path in image.root.files_under(home)]
    return Claim(paths, incomplete="a runtime: applications may bring a build of their own")


def _assets(document: bytes, artifact: Artifact) -> Iterator[str]:
    """Relative to the file, as far as it can be read."""
    try:
        targets = _mapping(json.loads(document).get("targets"))
    except (ValueError, RecursionError, AttributeError):
        return
    for target in targets.values():
        package = _mapping(_mapping(target).get(f"{artifact.name}/{artifact.version}"))
        for kind in ("runtime", "native", "resources", "runtimeTargets"):
            for asset in _mapping(package.get(kind)):
                name = posixpath.basename(asset)
                if kind == "resources":
                    yield posixpath.join(posixpath.basename(posixpath.dirname(asset)), name)
                else:
                    yield asset if kind == "runtimeTargets" else name


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
