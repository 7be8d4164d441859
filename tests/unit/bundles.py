"""Images with bundles and packages that may be in them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from services.scanner import own_modules, scripts
from services.scanner.layers import unpack
from tests.unit.images import artifact
from vexstream.own import distributed_files
from vexstream.ownership import assign
from vexstream.sbom import Artifact
from vexstream.scan import Package

PLENTY = 64 * 1024 * 1024
HOME = "usr/local/lib/node_modules"
BUNDLE = b"/srv/shop.js"
NUMBERS = ("nought", "single", "double", "triple", "fourfold", "fivefold", "sixfold", "sevenfold")
ERRORS = [f"throw Error('however only {n} customers waited outside')" for n in NUMBERS]
SOURCE = ";\n".join(ERRORS)
LONG = ",".join(f"a{n}" for n in range(200))


def scanned(
    folder: Path, files: Mapping[str, str], names: tuple[str, ...] = ("ms",), *more: Artifact
) -> dict[str, Package]:
    layer = folder / "layer"
    with tarfile.open(layer, "w") as tar:
        for number, (name, text) in enumerate(files.items()):
            content = text.encode() + b"\n" * (300 + number)  # no two are alike
            content += (
                b"" if name.endswith((".json", ".yarn-integrity", ".yaml")) else name.encode()
            )
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found = [*(artifact("npm", n, at=(f"/{HOME}/{n}/package.json",)) for n in names), *more]
    image = own_modules.image(unpack([layer], PLENTY), found, [layer], PLENTY)
    mapped = assign(found, image)
    distributed = distributed_files(found, mapped, image)
    mapped = scripts.with_bundles(mapped, image, distributed, [layer], PLENTY)
    return {package.name: package for package in mapped}


def package(source: str, name: str = "ms") -> dict[str, str]:
    return {f"{HOME}/{name}/package.json": "{}", f"{HOME}/{name}/index.js": source}
