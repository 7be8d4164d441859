"""``vexstream up``: what it says of a container that runs here, from its first program on."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from services.local import image
from services.local.containerd import Containerd
from services.local.image_archive import File

pytestmark = pytest.mark.real

T = TypeVar("T")
_WAIT_S = 150.0


def test_a_container_of_this_machine_gets_its_document(
    containerd: Containerd,
    image_cache: Path,
    demo_database: Mapping[str, str],
    tmp_path: Path,
) -> None:
    name = "registry.example/up/probe:1"
    # Of its own: one that runs before the collector does keeps its image open.
    files = {"/opt/up": File(b"an image of its own")}
    archive = image.probe_image(image_cache, files=files, name=name)
    said = tmp_path / "said"
    command = [sys.executable, "-m", "services.cli", "up", "--cri-endpoint", containerd.endpoint,
               "--learning-seconds", "5"]  # fmt: skip
    environment = {**os.environ, **demo_database, "COLUMNS": "300"}
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            # It is ignored by what was started in the background, and what that starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as up,
    ):
        try:
            url = _until(lambda: re.search(r"(http://\S+)/images", said.read_text()), up)[1]
            containerd.import_image(archive.path, name)
            container = containerd.run(name, "up", args=("sleep", "120"))
            address = f"{url}/images/{archive.config_digest}"
            found = _until(lambda: _learnt(address), up)
            containerd.stop(container)
            assert found["counts"]["not_affected"] > 0
            assert httpx.get(f"{url}/vex/{archive.config_digest}").status_code == 200
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0, said.read_text()
    assert said.read_text().rstrip().endswith("Stopped.")


def _learnt(address: str) -> dict[str, Any] | None:
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(address)
        found = answer.json() if answer.status_code == 200 else {}
        return found if found.get("counts", {}).get("not_affected") else None
    return None


def _until(found: Callable[[], T | None], up: "subprocess.Popen[bytes]") -> T:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        assert up.poll() is None, "it ended by itself"
        if there := found():
            return there
        time.sleep(0.3)
    raise AssertionError("it did not come to be in time")
