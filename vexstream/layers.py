"""What the layers of an image are called together.

containerd keeps the content of an image under the chain id of its layers, and so knows on which
ones a container stands also when the image's record is lost. Its configuration, which the scanner
reads, lists the layers from which that id follows (OCI image spec, config.md, "Layer ChainID").
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from vexstream.identity import BadDigestError, Digest, parse_digest


def chain_id(config: Mapping[str, Any]) -> Digest | None:
    """That of an image by its configuration; None where that names no layers."""
    rootfs = config.get("rootfs")
    layers = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if not isinstance(layers, list) or not layers:
        return None
    try:
        lowest, *others = [parse_digest(str(layer)) for layer in layers]
    except BadDigestError:
        return None
    chain = lowest
    for layer in others:
        chain = Digest("sha256:" + hashlib.sha256(f"{chain} {layer}".encode()).hexdigest())
    return chain
