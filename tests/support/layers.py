"""What the layers of an image that a test has built are called together."""

import json
import tarfile

from services.local.image_archive import ImageArchive
from vexstream.identity import Digest
from vexstream.layers import chain_id


def layers_of(image: ImageArchive) -> Digest | None:
    """By its configuration, as it lies in the archive."""
    with tarfile.open(image.path) as archive:
        config = archive.extractfile(f"blobs/sha256/{image.config_digest.partition(':')[2]}")
        assert config is not None
        return chain_id(json.load(config))
