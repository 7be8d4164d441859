"""Archives of images: which image is in one, and what it is called."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.ci.errors import ImageNotFoundError
from services.ci.images import find_image
from services.local.image_archive import (
    ImageConfig,
    architecture,
    layer_of_files,
    write_archive,
)

_OTHER = "s390x"


def _tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _layout(path: Path, annotations: Mapping[str, str]) -> tuple[Path, str]:
    """An OCI archive of an index with two platforms; the digest of ours."""
    blobs: dict[str, bytes] = {}

    def put(document: Any) -> str:
        content = _json(document)
        blobs["blobs/" + _digest(content).replace(":", "/")] = content
        return _digest(content)

    def entry(platform: str) -> dict[str, Any]:
        config = put({"architecture": platform})
        manifest = put({"config": {"digest": config}, "layers": []})
        return {"digest": manifest, "platform": {"architecture": platform}}

    index = put({"manifests": [entry(_OTHER), entry(architecture())]})
    ours = _digest(_json({"architecture": architecture()}))
    head = {"manifests": [{"digest": index, "annotations": dict(annotations)}]}
    return _tar(path, {"./index.json": _json(head), **blobs}), ours


def test_of_an_index_the_image_for_this_machine_is_taken(tmp_path: Path) -> None:
    name = "registry.example:5000/acme/shop:7"
    archive, ours = _layout(tmp_path / "a.tar", {"io.containerd.image.name": name})
    image = find_image(str(archive), [], tmp_path)
    assert image.config_digest == ours
    assert image.base_name == "registry.example:5000/acme/shop"
    assert image.known_as.names == (name,)


def test_an_archive_without_a_name_is_called_by_its_file(tmp_path: Path) -> None:
    archive, _ = _layout(tmp_path / "My Shop!.tar", {})
    assert find_image(str(archive), [], tmp_path).base_name == "localhost/my-shop"


def test_a_bare_tag_is_no_name(tmp_path: Path) -> None:
    archive, _ = _layout(tmp_path / "shop.tar", {"org.opencontainers.image.ref.name": "7"})
    image = find_image(str(archive), [], tmp_path)
    assert (image.base_name, image.known_as.names) == ("localhost/shop", ())


def test_our_own_archives_are_read(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer_of_files({}, layer)
    made = write_archive(tmp_path / "image.tar", "localhost/a/b:1", [layer], ImageConfig())
    assert find_image(str(made.path), [], tmp_path).config_digest == made.config_digest


@pytest.mark.parametrize("form", ["{}.json", "blobs/sha256/{}"])
def test_docker_save_of_old_and_new_is_read(tmp_path: Path, form: str) -> None:
    config = "c" * 64
    manifest = [{"Config": form.format(config), "RepoTags": ["shop:ci"], "Layers": []}]
    archive = _tar(tmp_path / "saved.tar", {"manifest.json": _json(manifest)})
    image = find_image(str(archive), [], tmp_path)
    assert image.config_digest == f"sha256:{config}"
    assert (image.base_name, image.known_as.names) == ("shop", ("shop:ci",))


def test_a_product_adds_the_digest_by_which_it_will_be_pulled(tmp_path: Path) -> None:
    archive, ours = _layout(tmp_path / "a.tar", {})
    published = "registry.example/acme/shop@sha256:" + "d" * 64
    known_as = find_image(str(archive), [published], tmp_path).known_as
    assert known_as.config_digest == ours
    assert known_as.manifest_digests == ("sha256:" + "d" * 64,)
    assert known_as.names == ("registry.example/acme/shop",)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no image archive"),
        ({"manifest.json": b"[]"}, "0 images"),
        ({"manifest.json": b"{"}, "no image archive"),
        ({"index.json": b'{"manifests": []}'}, "no image for"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:../../etc/passwd"}]}'}, "no digest"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, files: dict[str, bytes], why: str) -> None:
    with pytest.raises(ImageNotFoundError, match=why):
        find_image(str(_tar(tmp_path / "a.tar", files)), [], tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar")
    with pytest.raises(ImageNotFoundError, match="docker save"):
        find_image(str(tmp_path / "a.tar"), [], tmp_path)


def test_a_product_with_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    archive, _ = _layout(tmp_path / "a.tar", {})
    with pytest.raises(ImageNotFoundError, match="no digest"):
        find_image(str(archive), ["shop@sha256:12"], tmp_path)
