"""What an engine with Docker's interface put into a container beside its image: other images, whose
digests it does not tell, and copies of the image's own files on a tmpfs."""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.collector.names import open_in_root
from vexstream.filekinds import Kind, kind

_COPIED = "tmpcopyup"
_MAX_FILES = 20_000
_NO_NAME = ["<none>:<none>"]


def mounted_image(root: Path, container_id: str, destination: str) -> str | None:
    """Id of the image that Docker mounted when it made the container, from its own notes.

    ``root`` is the engine's folder as it is seen here.
    """
    notes = root / "containers" / container_id / "config.v2.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        source = json.loads(notes.read_bytes())["MountPoints"][destination]["Spec"]["Source"]
        return source if source.startswith("sha256:") else None
    return None


def perhaps_mounted(name: str, images: Iterable[dict[str, Any]]) -> list[str]:
    """Ids of the images that bear or bore a name, so far as the engine's list of them tells.

    Podman keeps the names that each had. Elsewhere an image that lost its only one has none.
    """
    return [image["Id"] for image in images if _may_have_been(name, image)]


def _may_have_been(name: str, image: dict[str, Any]) -> bool:
    tags = image.get("RepoTags") or []
    names = [*tags, *(image.get("History") or []), *(image.get("Names") or [])]
    if any(one in (name, f"{name}:latest") or one.endswith(f"/{name}") for one in names):
        return True
    return "History" not in image and (not tags or tags == _NO_NAME)


def copied_code(container: dict[str, Any], host_root: Path) -> tuple[str, ...]:
    """Where a tmpfs was filled with code of the image; where that cannot be looked at, perhaps."""
    driver = (container.get("GraphDriver") or {}).get("Data") or {}
    layers = [*driver.get("LowerDir", "").split(":"), driver.get("UpperDir", "")]
    filled = [
        path
        for path, options in ((container.get("HostConfig") or {}).get("Tmpfs") or {}).items()
        if _COPIED in options.split(",")
    ]
    known = [host_root / layer.lstrip("/") for layer in layers if layer]
    return tuple(
        path
        for path in sorted(filled)
        if not known or any(_has_code(layer, path) for layer in known)
    )


def _has_code(layer: Path, path: str) -> bool:
    try:
        top = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        found = open_in_root(top, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    finally:
        os.close(top)
    try:
        return any(_is_code(*file) for file in _files(found, path))
    except OSError:  # also of what went away meanwhile
        return True
    finally:
        os.close(found)


def _is_code(path: bytes, mode: int) -> bool:
    return stat.S_ISREG(mode) and (bool(mode & 0o111) or kind(path) is Kind.CODE)


def _files(found: int, path: str) -> Iterator[tuple[bytes, int]]:
    """The files below a directory; of too many the last one stands for the others, as a program.

    Raises OSError: a part of it cannot be read.
    """
    count = 0
    for folder, _, names, here in os.fwalk(".", dir_fd=found, onerror=_refuse):
        for name in names:
            count += 1
            mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            mode = mode if count < _MAX_FILES else stat.S_IFREG | 0o111
            yield os.fsencode(os.path.join(path, folder, name)), mode


def _refuse(error: OSError) -> None:
    raise error
