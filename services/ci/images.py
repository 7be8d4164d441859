"""Where the image under test comes from, and how it gets into the private containerd.

An archive is taken as it is. A reference is looked for in Docker, in Podman and in the machine's
containerd, and saved from the first that has it. It is imported by its configuration's digest,
under which a container of it can be started whatever names the archive holds.
"""

import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ci.errors import ImageNotFoundError
from services.local.containerd import NAMESPACE, Containerd, ContainerdError
from services.local.image_archive import architecture
from vexstream.identity import BadDigestError, Digest, Image, parse_digest
from vexstream.scan import ManifestDigest, PlatformImage

_SAVE_SECONDS = 600
_ASK_SECONDS = 30
_IMPORT_SECONDS = 10.0
_HOST_CONTAINERD = Path("/run/containerd/containerd.sock")
_HOST_NAMESPACES = ("default", "k8s.io")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ILLEGAL = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as an archive. ``known_as`` is what the place it was found in says beside."""

    path: Path
    config_digest: Digest
    base_name: str
    """Repository of its names, or what stands for one."""
    known_as: Image
    claimed: tuple[ManifestDigest, ...] = ()
    """Digests of which whoever asked says that they are this image alone."""


def find_image(wanted: str, products: Sequence[str], scratch: Path) -> ImageFile:
    """The archive that ``wanted`` names, or a saved copy of the image with that name.

    ``products`` (``NAME@sha256:...``) are further names under which this image, and no other
    platform's, is published.

    Raises:
        ImageNotFoundError: nothing here is called that, or it is no image.
    """
    path = Path(wanted)
    if path.is_file():
        references: list[str] = []
    else:
        path = scratch / "image.tar"
        references = [wanted, *_saved(wanted, path)]
    digest, names = _read(path)
    references += [*names, *products]
    known_as = Image(digest)
    for reference in references:
        known_as = known_as.merged(_as_product(digest, reference))
    named = [name for name in names if "/" in name or ":" in name]
    base = named[0].rpartition(":")[0] if named else f"localhost/{_slug(path.stem)}"
    claimed = {d for p in products for d in _as_product(digest, p).manifest_digests}
    alone = tuple(ManifestDigest(d, (PlatformImage(d),)) for d in sorted(claimed))
    return ImageFile(path, digest, base, known_as, alone)


def import_image(containerd: Containerd, image: ImageFile) -> None:
    """Puts the image into the private containerd.

    Raises:
        ImageNotFoundError: containerd refuses the archive.
    """
    socket = containerd.endpoint.removeprefix("unix://")
    command = ["ctr", "--address", socket, "--namespace", NAMESPACE, "images", "import",
               "--digests", "--base-name", image.base_name, str(image.path)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SAVE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ImageNotFoundError(f"containerd took too long to import {image.path}") from error
    if done.returncode:
        raise ImageNotFoundError(f"containerd refuses {image.path}: {_said(done.stderr)}")
    # The CRI learns of new images by an event, a moment after the import.
    deadline = time.monotonic() + _IMPORT_SECONDS
    while True:
        try:
            containerd.digests(image.config_digest)
        except ContainerdError as error:
            if time.monotonic() > deadline:
                raise ImageNotFoundError(
                    f"{image.path} was imported, but no image {image.config_digest} came of it: "
                    f"is it for this machine ({architecture()})?"
                ) from error
            time.sleep(0.05)
        else:
            return


def _saved(reference: str, path: Path) -> list[str]:
    """Saves an image of this machine; returns the digests it was pulled or pushed by."""
    tried = []
    for engine in ("docker", "podman"):
        if shutil.which(engine) is None:
            continue
        asked = [engine, "image", "inspect", "--format", "{{json .RepoDigests}}", reference]
        answer = _run(asked, _ASK_SECONDS)
        if answer.returncode:
            tried.append(f"{engine}: {_said(answer.stderr)}")
            continue
        saved = _run([engine, "save", "--output", str(path), reference], _SAVE_SECONDS)
        if saved.returncode == 0:
            return [str(digest) for digest in json.loads(answer.stdout) or []]
        tried.append(f"{engine}: {_said(saved.stderr)}")
    if _HOST_CONTAINERD.exists() and shutil.which("ctr"):
        for namespace in _HOST_NAMESPACES:
            export = ["ctr", "--address", str(_HOST_CONTAINERD), "--namespace", namespace,
                      "images", "export", str(path), reference]  # fmt: skip
            done = _run(export, _SAVE_SECONDS)
            if done.returncode == 0:
                return []
            tried.append(f"containerd ({namespace}): {_said(done.stderr)}")
    raise ImageNotFoundError(
        f"there is no image {reference} here: give the path of an archive "
        "(`docker save` or an OCI archive), or pull or build it first"
        + ("".join(f"\n  {line}" for line in tried))
    )


def _run(command: list[str], seconds: float) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, b"", f"no answer: {error}".encode())


def _said(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _read(path: Path) -> tuple[Digest, list[str]]:
    """Configuration digest for this machine, and the names in the archive."""
    try:
        with tarfile.open(path) as tar:
            members = {member.name.removeprefix("./"): member for member in tar.getmembers()}
            if "manifest.json" in members:
                return _docker(_load(tar, members["manifest.json"]))
            return _oci(tar, members)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ImageNotFoundError(
            f"{path} is no image archive ({type(error).__name__}: {error}): make one with "
            "`docker save IMAGE -o image.tar`, or as an OCI archive"
        ) from error


def _docker(manifest: Any) -> tuple[Digest, list[str]]:
    """Of ``docker save``: the configuration's file is called by its digest."""
    if len(manifest) != 1:
        raise ValueError(f"it holds {len(manifest)} images, not one")
    config = Path(manifest[0]["Config"]).name.removesuffix(".json")
    return parse_digest(f"sha256:{config}"), list(manifest[0].get("RepoTags") or [])


def _oci(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> tuple[Digest, list[str]]:
    def blob(digest: str) -> Any:
        return _load(tar, members["blobs/" + parse_digest(digest).replace(":", "/")])

    entries = _load(tar, members["index.json"])["manifests"]
    names = [
        entry["annotations"][key]
        for entry in entries
        for key in _NAMES
        if key in (entry.get("annotations") or {})
    ]
    waiting = list(entries)
    while waiting:
        entry = waiting.pop(0)
        platform = entry.get("platform") or {}
        if platform.get("architecture", architecture()) != architecture():
            continue
        document = blob(entry["digest"])
        if "config" in document:
            return parse_digest(document["config"]["digest"]), names
        waiting += document["manifests"]
    raise ValueError(f"it holds no image for {architecture()}")


def _load(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return json.load(file)


def _as_product(config: Digest, reference: str) -> Image:
    name, at, digest = reference.partition("@")
    try:
        manifests = (parse_digest(digest),) if at else ()
    except BadDigestError as error:
        raise ImageNotFoundError(f"{reference}: {error}") from error
    return Image(config, manifests, (name,) if "/" in name or ":" in name or at else ())


def _slug(text: str) -> str:
    return _ILLEGAL.sub("-", text.lower()).strip("-._") or "image"
