"""An image of two platforms."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from services.local.image_archive import File, ImageConfig, layer_of_files, write_archive
from vexstream.identity import Digest, parse_digest

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class MultiArch:
    """An OCI layout whose index names one image for each of two platforms."""

    def __init__(self, folder: Path) -> None:
        self.layout = folder / "layout"
        self.layout.mkdir()
        manifests = []
        self.configs: list[Digest] = []
        for platform in ("amd64", "arm64"):
            layer = folder / f"{platform}.tar"
            layer_of_files({"/usr/bin/app": File(platform.encode(), 0o755)}, layer)
            made = write_archive(folder / f"{platform}-image.tar", "localhost/app:1", [layer],
                                 ImageConfig(architecture=platform))  # fmt: skip
            shutil.unpack_archive(made.path, self.layout)
            self.configs.append(made.config_digest)
            manifests.append(self._descriptor(made.manifest_digest, _MANIFEST)
                             | {"platform": {"os": "linux", "architecture": platform}})  # fmt: skip
        self.manifests = [parse_digest(manifest["digest"]) for manifest in manifests]
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
        content = json.dumps(index).encode()
        self.index = parse_digest("sha256:" + hashlib.sha256(content).hexdigest())
        self._blob(self.index).write_bytes(content)
        entry = self._descriptor(self.index, _INDEX)
        entry["annotations"] = {
            "org.opencontainers.image.ref.name": "1",
            "io.containerd.image.name": "localhost/app:1",
        }
        (self.layout / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": [entry]})
        )

    def _blob(self, digest: Digest) -> Path:
        return self.layout / "blobs" / digest.replace(":", "/")

    def _descriptor(self, digest: Digest, media_type: str) -> dict[str, Any]:
        size = self._blob(digest).stat().st_size
        return {"mediaType": media_type, "digest": digest, "size": size}
