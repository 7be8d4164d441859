"""A volume that is itself the directory of packages, which Docker and Podman fill with the files of
the image: what is used there counts as use of the image's packages."""

import asyncio
from pathlib import Path

import pytest

from services.local import image_base
from services.local.containerd import Containerd
from services.local.ports import free_port
from tests.support import ecosystems, mapped, scripted
from tests.support.collecting import Broker, Records, collecting, eventually, seeing
from tests.support.engines import Engine
from vexstream.evidence import Evidence, Use
from vexstream.identity import Digest, Image
from vexstream.scan import Package, Scan
from vexstream.usage import FileIndex

pytestmark = pytest.mark.real

IMAGE, KEPT = "localhost/vexstream/volume:1", "vexstream-kept"
SCRIPT = "require('@sindresorhus/is'); console.log(require('debug').enabled('x'))"
"""``debug`` loads ``ms``; nobody loads ``minimist``."""
PACKAGES = {"debug": "4.3.4", "minimist": "1.2.5", "@sindresorhus/is": "4.6.0"}


@pytest.fixture
def packages(
    engine: Engine, syft: Path, image_cache: Path, tmp_path: Path
) -> tuple[Digest, tuple[Package, ...]]:
    """Of an image that the engine has: its digest, and what it has in ``/app``."""
    root, work = tmp_path / "root", tmp_path / "work"
    work.mkdir()
    ecosystems.write(ecosystems.npm(root, "app", PACKAGES), {"index.js": SCRIPT})
    base = image_base.debian_base(image_cache, lambda _: None)  # the engine's image has it as well
    image = scripted.image(root, IMAGE, tmp_path, base)
    engine.load(image, tmp_path)
    return image.config_digest, mapped.packages(root, work, syft)


def run(engine: Engine, name: str, volume: str, *command: str) -> str:
    node = f"{scripted.node_here()}:{scripted.NODE}:ro"
    engine.call(
        "run", "--detach", "--name", name, "--network", "host", *engine.options,
        "--volume", volume, "--volume", node, IMAGE, *command,
    )  # fmt: skip
    return engine.call("inspect", "--format", "{{.Id}}", name)


def evidence(records: Records, container_id: str, digest: Digest) -> Evidence:
    known = Evidence(Image(digest))
    for batch in records.batches[container_id]:
        known.merge(batch)
    return known


def _is_done(records: Records, container_id: str, digest: Digest) -> bool:
    """What comes after the application has begun."""
    return b"/usr/bin/sleep" in evidence(records, container_id, digest).files


async def test_what_is_used_on_it_is_use_of_the_images_packages(
    node: Containerd, engine: Engine, broker: Broker,
    packages: tuple[Digest, tuple[Package, ...]],
) -> None:  # fmt: skip
    digest, known = packages
    # Filled before anybody observes it.
    await asyncio.to_thread(run, engine, "filler", f"{KEPT}:/app/node_modules", "/bin/true")
    port, app = free_port(), f"{scripted.NODE} /app/index.js && exec sleep 600"
    runtimes = f"{engine.kind}=unix://{engine.socket}"
    prefix = f"volumes-{engine.kind}."
    async with collecting(node, broker, prefix, runtimes=runtimes, ops_port=port) as records:
        await seeing(port)
        containers = [
            await asyncio.to_thread(run, engine, name, volume, "/bin/sh", "-c", app)
            for name, volume in (
                ("anonymous", "/app/node_modules"),
                ("named", f"{KEPT}:/app/node_modules"),
            )
        ]
        await eventually(lambda: all(_is_done(records, one, digest) for one in containers))
    index = FileIndex(Scan(Image(digest), 0, packages=known))
    names = {package.id: package.name for package in known}
    for one in containers:
        seen = evidence(records, one, digest)
        assert seen.files[b"/ms/index.js"].use & Use.REWRITTEN, "by its path on the volume"
        assert not [path for path in seen.files if path.startswith(b"/app/node_modules/")]
        used = {names[identifier] for identifier in index.used(seen.files)}
        assert used == {"shop", "debug", "ms", "@sindresorhus/is"}
    made = ("filler", "anonymous", "named")
    await asyncio.to_thread(engine.call, "rm", "--force", "--volumes", *made)
