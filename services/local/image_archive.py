"""Writes OCI images: layers and a config into an ``oci-archive`` tar, with no registry and no tool.

Layers are stored uncompressed: the archives never leave the machine, and packing and unpacking
would cost more time than the whole rest of an image build.
"""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.local.process import LocalError
from vexstream.identity import Digest, parse_digest

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CREATED = "1970-01-01T00:00:00Z"


class ImageError(LocalError):
    """An image cannot be built; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """An image in a file that containerd, Syft and Skopeo read. ``name`` has a tag."""

    path: Path
    name: str
    manifest_digest: Digest
    config_digest: Digest


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container of the image runs."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    architecture: str | None = None
    """As OCI spells it; None for this machine's."""
    stop_signal: str | None = None
    """What a runtime sends to end a container; None is its own choice, which is SIGTERM."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a layer."""

    content: bytes
    mode: int = 0o644


def architecture() -> str:
    """This machine's, as OCI spells it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def layer_of_directory(root: Path, layer: Path, *members: str) -> None:
    """Packs ``members`` (paths relative to ``root``; all of it without any) with owners and times.

    Times stay: a compiled Python file names the second its source was written in.
    """
    arguments = [
        "tar", "--create", "--file", str(layer), "--directory", str(root), "--format=posix",
        "--pax-option=delete=atime,delete=ctime", "--sort=name", "--numeric-owner",
        "--xattrs", *(members or ["."]),
    ]  # fmt: skip
    done = subprocess.run(arguments, capture_output=True, check=False)
    if done.returncode:
        raise ImageError(f"cannot pack {root}: {done.stderr.decode(errors='replace').strip()}")


def layer_of_files(files: Mapping[str, File], layer: Path) -> None:
    """Packs files by their absolute, symlink-free paths; the same files give the same bytes."""
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(file.content), file.mode
            tar.addfile(entry, io.BytesIO(file.content))


def write_archive(
    path: Path,
    name: str,
    layers: Sequence[Path],
    config: ImageConfig,
    *,
    layer_type: str = LAYER_TYPE,
) -> ImageArchive:
    """Puts layers and config together; the same ones give the same bytes."""
    digests = [_file_digest(layer) for layer in layers]
    config_blob = _json(_config_document(config, digests))
    config_digest = _digest(config_blob)
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, config_digest, len(config_blob)),
            "layers": [
                _descriptor(layer_type, digest, layer.stat().st_size)
                for layer, digest in zip(layers, digests, strict=True)
            ],
        }
    )
    manifest_digest = _digest(manifest_blob)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        for folder in ("blobs", "blobs/sha256"):  # Syft unpacks no file without its folder
            _add_folder(tar, folder)
        _add(tar, "index.json", _index(name, manifest_digest, len(manifest_blob)))
        _add(tar, _blob(manifest_digest), manifest_blob)
        _add(tar, _blob(config_digest), config_blob)
        for layer, digest in dict(zip(layers, digests, strict=True)).items():
            _add_file(tar, _blob(digest), layer)
    return ImageArchive(path, name, manifest_digest, config_digest)


def read_archive(path: Path, name: str) -> ImageArchive:
    """The digests of an archive that ``write_archive`` wrote."""
    with tarfile.open(path) as tar:
        manifest_digest = _load(tar, "index.json")["manifests"][0]["digest"]
        config_digest = _load(tar, _blob(manifest_digest))["config"]["digest"]
    return ImageArchive(path, name, parse_digest(manifest_digest), parse_digest(config_digest))


def _config_document(config: ImageConfig, diff_ids: Sequence[Digest]) -> dict[str, Any]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "created": _CREATED,
        "architecture": config.architecture or architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.command),
            "Env": [f"{key}={value}" for key, value in ({"PATH": path} | dict(config.env)).items()],
            "WorkingDir": config.working_dir,
            **({"StopSignal": config.stop_signal} if config.stop_signal else {}),
            **({"Labels": dict(config.labels)} if config.labels else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": _CREATED, "created_by": "vexstream"} for _ in diff_ids],
    }


def _index(name: str, manifest_digest: Digest, size: int) -> bytes:
    descriptor = _descriptor(_MANIFEST_TYPE, manifest_digest, size)
    tag = name.rpartition(":")[2]
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    return _json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [descriptor]})


def _descriptor(media_type: str, digest: Digest, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, file: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = file.stat().st_size
    with file.open("rb") as content:
        tar.addfile(entry, content)


def _load(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.extractfile(name)
    if member is None:
        raise ImageError(f"{tar.name!r} is no OCI archive: {name} is no file")
    return json.load(member)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(content: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def _file_digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
