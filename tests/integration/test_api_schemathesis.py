"""Schemathesis reads our OpenAPI document and finds nothing: no crash, no surprise."""

import asyncio
import dataclasses
import hashlib
import os
import shutil
import sysconfig
from pathlib import Path

import pytest
from pydantic import SecretStr

from benchmarks.api import fill
from services.common.settings import CommonSettings
from tests.support.api import absence, api_under_test
from vexstream.document import DocumentState
from vexstream.identity import Digest, Image

pytestmark = pytest.mark.real

SECRET = "a-long-random-string"
EXAMPLES = "8"
SECONDS = 900
"""A busy machine takes ten times as long as an idle one."""
CONFIG = """
# What a decision and a vendor's document must say beyond their form is not for a JSON schema.
[[operations]]
include-path-regex = "^/(vendor-vex|vex/.*/decisions)$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
async def test_schemathesis_finds_nothing(
    kafka_settings: CommonSettings, postgres_url: str, tmp_path: Path, phases: str
) -> None:
    hashed = hashlib.sha256(SECRET.encode()).hexdigest()
    token = SecretStr(f"tester read,rescan,decide,vendor-vex {hashed}")
    async with api_under_test(kafka_settings, postgres_url) as api:
        documented = Digest("sha256:" + "0123456789abcdef" * 4)  # the example in our OpenAPI
        await api.publish(
            dataclasses.replace(fill.record(1, 20, 1_700_000_000_000_000), image=Image(documented)),
            absence("waiting", DocumentState.AWAITING_SCAN),
        )
        async with api.serving(api_tokens=token) as base:
            await _run(tmp_path, base, "--exclude-path", "/stream", "--phases", phases)


async def test_schemathesis_finds_nothing_in_the_stream_that_is_full(
    kafka_settings: CommonSettings, postgres_url: str, tmp_path: Path
) -> None:
    """A stream that is read never ends, and Schemathesis waits for the end of an answer.

    So it sees what comes before the first event alone; test_api_history.py reads the events.
    """
    async with api_under_test(kafka_settings, postgres_url) as api, api.serving() as base:
        api.fill_stream()
        await _run(
            tmp_path, base, "--include-path", "/stream", "--phases", "coverage,fuzzing",
            "--exclude-checks", "not_a_server_error",  # 503 is what it promises
        )  # fmt: skip


async def _run(folder: Path, base: str, *options: str) -> None:
    scripts = sysconfig.get_path("scripts")
    tool = shutil.which("schemathesis", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    if tool is None:
        pytest.skip("schemathesis is not installed: pip install schemathesis")
    config, report = folder / "schemathesis.toml", folder / "report.txt"
    config.write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        tool, "--config-file", str(config), "run", f"{base}/openapi.json",
        "--url", base, "--max-examples", EXAMPLES, "--seed", "1", *options,
        "--request-timeout", "20", "--header", f"Authorization: Bearer {SECRET}",
        "--no-color", cwd=folder, stdout=report.open("wb"), stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    said = report.read_text()[-20_000:]
    assert process.returncode == 0, said
    assert "Test cases:" in said
