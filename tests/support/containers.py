"""Fixtures that give tests a real containerd and real images."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from services.local import grype_db, image
from services.local.containerd import Containerd
from services.local.image_archive import ImageArchive
from services.local.process import MissingPrerequisiteError
from services.local.tools import find_tool, obstacles

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image_cache() -> Path:
    """Where built images stay between runs: .cache/images, or images/ in VEXSTREAM_CACHE."""
    return Path(os.environ.get("VEXSTREAM_CACHE", ROOT / ".cache")) / "images"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def containerd(image_cache: Path) -> Iterator[Containerd]:
    """A private containerd for the whole test run, empty but for the pause image."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    daemon = Containerd(folder, cache=image_cache, remove_state=True)
    _or_skip(daemon.start)
    yield daemon
    daemon.close()


@pytest.fixture(scope="session")
def probed(containerd: Containerd, probe_image: ImageArchive) -> Containerd:
    """The same, with the small Debian in it."""
    containerd.import_image(probe_image.path, image.PROBE)
    return containerd


@pytest.fixture(scope="session")
def demo_image(image_cache: Path) -> ImageArchive:
    """The demo's web application."""
    return _or_skip(lambda: image.demo_image(image_cache))


@pytest.fixture(scope="session")
def probe_image(image_cache: Path) -> ImageArchive:
    """A small Debian that sleeps; see ``image.probe_image`` for one with programs in it."""
    return _or_skip(lambda: image.probe_image(image_cache))


@pytest.fixture(scope="session")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Grype's database of the demo, as variables, where containers can be observed."""
    if why := obstacles():
        pytest.skip("no containers can be observed here: " + "; ".join(why))
    folder = tmp_path_factory.mktemp("grype")
    built = grype_db.build(grype_db.FACTS, folder / "build", datetime.now(UTC))
    grype_db.install(built, folder / "db", find_tool("grype"))
    return grype_db.environment(folder / "db")


def _or_skip(action: Callable[[], T]) -> T:
    try:
        return action()
    except MissingPrerequisiteError as error:
        pytest.skip(f"no containers here: {error}")
