"""Two bundles of npm packages in an image, of which the container runs one: what is in the other is
ruled out, until the container runs that one too. Of the map alone: integration/test_bundles.py."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.local import grype_db
from services.local.containerd import Containerd
from services.local.image_archive import ImageArchive
from services.local.ports import free_port
from services.scanner.service import run
from services.scanner.settings import ScannerSettings
from tests.support import ecosystems, scripted
from tests.support.collecting import Broker, collecting, seeing
from tests.support.consumer_facts import write_facts
from tests.support.correlators import Bench, correlator
from tests.support.slow import slow
from vexstream.document import DocumentRecord

pytestmark = pytest.mark.real

IMAGE = "localhost/vexstream/bundles:1"
FRONT = "console.log(require('minimist')(process.argv.slice(2))); setInterval(() => {}, 1000)"
BACK = "console.log(require('lodash').template('<%= a %>')({ a: 1 }))"


@pytest.fixture
def shop(tmp_path: Path) -> ImageArchive:
    """The packages lie elsewhere, as in an image of one stage. Node.js is in the image, without a
    Debian to scan around it: of a container whose every program lies on a volume nothing is ruled
    out."""
    root = tmp_path / "root"
    scripted.put_node(root)
    home = ecosystems.npm(root, "build", {"minimist": "1.2.5", "lodash": "4.17.20"})
    ecosystems.write(home, {"src/front.js": FRONT, "src/back.js": BACK})
    for bundle, options in {"front": (), "back": ("--minify",)}.items():
        ecosystems.run(["npm", "exec", "--yes", "esbuild@0.25.12", "--", f"src/{bundle}.js",
                        "--bundle", "--platform=node", f"--outfile=../srv/{bundle}.js",
                        "--log-level=error", *options], home)  # fmt: skip
    return scripted.image(root, IMAGE, tmp_path)


@pytest.fixture
def database(grype: Path, tmp_path: Path) -> Mapping[str, str]:
    """Both packages are vulnerable by it."""
    facts = tmp_path / "facts.json"
    write_facts(facts)
    built = grype_db.build(facts, tmp_path / "built", datetime.now(UTC))
    grype_db.install(built, tmp_path / "grype", grype)
    return grype_db.environment(tmp_path / "grype")


@contextlib.asynccontextmanager
async def scanning(settings: ScannerSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    scanner = asyncio.create_task(run(settings, stop))
    try:
        yield
        assert not scanner.done(), scanner.exception()
    finally:
        stop.set()
        await scanner


def statuses(found: list[DocumentRecord]) -> dict[str, set[str]]:
    """Of the npm packages, by the last document."""
    said: dict[str, set[str]] = {}
    bodies = [record.body for record in found if record.body]
    for statement in json.loads(bodies[-1])["statements"] if bodies else ():
        purl = statement["products"][0]["subcomponents"][0]["@id"]
        if purl.startswith("pkg:npm/"):
            name = purl.removeprefix("pkg:npm/").partition("@")[0]
            said.setdefault(name, set()).add(statement["status"])
    return said


@slow
async def test_the_packages_of_a_bundle_are_judged_by_its_use(
    node: Containerd, broker: Broker, bench: Bench, shop: ImageArchive, syft: Path, grype: Path,
    database: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    node.import_image(shop.path, IMAGE)
    settings, port = bench.settings, free_port()
    scanner = ScannerSettings(
        **settings.model_dump(exclude_unset=True), syft=str(syft), grype=str(grype),
        containerd_address=node.endpoint.removeprefix("unix://"), work_dir=tmp_path,
    )  # fmt: skip
    collected = {"partitions": settings.partitions, "ops_port": port}
    with correlator(settings, tmp_path / "correlator", VEXSTREAM_LEARNING_PERIOD_SECONDS="3"):
        async with scanning(scanner), collecting(node, broker, settings.topic_prefix, **collected):
            await seeing(port)
            front = [scripted.NODE, "/srv/front.js"]
            container = await asyncio.to_thread(node.run, IMAGE, "shop", args=front)
            idle = {"minimist": {"affected"}, "lodash": {"not_affected"}}
            await bench.until(lambda found: statuses(found) == idle)
            done = await asyncio.to_thread(node.exec, container, [scripted.NODE, "/srv/back.js"])
            assert (done.exit_code, done.stdout) == (0, b"1\n")
            both = {"minimist": {"affected"}, "lodash": {"affected"}}
            await bench.until(lambda found: statuses(found) == both)
    await asyncio.to_thread(node.stop, container)
