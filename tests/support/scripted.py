"""Images with scripts for the Node.js of this machine, which is in the image or mounted."""

import re
import shutil
import subprocess
from pathlib import Path

from services.local.image_archive import (
    ImageArchive,
    ImageConfig,
    layer_of_directory,
    write_archive,
)
from tests.support import ecosystems

NODE = "/usr/local/bin/node"
"""Where it is in the container."""


def node_here() -> Path:
    """Where it is on this machine."""
    return Path(ecosystems.need("node", "apt-get install nodejs")).resolve()


def put_node(root: Path) -> None:
    """It, and the libraries that it is linked to."""
    linked = subprocess.run(["ldd", node_here()], capture_output=True, text=True, check=True)
    libraries = re.findall(r"(?:=> |^\s+)(/\S+)", linked.stdout, re.MULTILINE)
    for source, target in [(node_here(), NODE), *((one, one) for one in libraries)]:
        place = Path(f"{root}{target}")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def image(root: Path, name: str, folder: Path, *below: Path) -> ImageArchive:
    """What is in ``root`` on the layers below it; ``folder`` takes the archive."""
    layer = folder / "layer.tar"
    layer_of_directory(root, layer)
    return write_archive(folder / "image.tar", name, [*below, layer], ImageConfig())
