"""SBOMs on disk by image digest: what rescans are made from, without the image."""

import os
from pathlib import Path

import zstandard

from vexstream.identity import Digest

_MIB = 1024 * 1024
_SUFFIX = ".syft.json.zst"


class SbomStore:
    """Syft's documents, compressed and bounded; the one used longest ago goes first."""

    def __init__(self, folder: Path, max_mib: int) -> None:
        self._folder = folder
        self._max_bytes = max_mib * _MIB

    def put(self, digest: Digest, document: Path) -> None:
        """Keeps a document in place of the image's former one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(digest)
        partial = path.with_suffix(f".{os.getpid()}.part")
        with document.open("rb") as source, partial.open("wb") as target:
            zstandard.ZstdCompressor(level=6).copy_stream(source, target)
        partial.replace(path)
        self._shrink(path)

    def get(self, digest: Digest, into: Path) -> Path | None:
        """Unpacks the image's document below a folder; None when there is none."""
        path, document = self._path(digest), into / "syft.json"
        try:
            with path.open("rb") as source, document.open("wb") as target:
                zstandard.ZstdDecompressor().copy_stream(source, target)
        except FileNotFoundError:
            return None
        except zstandard.ZstdError:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return document

    def _path(self, digest: Digest) -> Path:
        return self._folder / (digest.replace(":", "-") + _SUFFIX)

    def _shrink(self, newest: Path) -> None:
        found = sorted(
            (path.stat().st_mtime, path.stat().st_size, path)
            for path in self._folder.glob(f"*{_SUFFIX}")
            if path != newest
        )
        held = newest.stat().st_size + sum(size for _, size, _ in found)
        for _, size, path in found:
            if held <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            held -= size
