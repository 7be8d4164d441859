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
SECONDS = 120
CONFIG = """
# What a decision and a vendor's document must say beyond their form is not for a JSON schema.
[[operations]]
include-path-regex = "^/(vendor-vex|vex/.*/decisions)$"
checks.positive_data_acceptance.enabled = false
"""


async def test_schemathesis_finds_nothing(
    kafka_settings: CommonSettings, postgres_url: str, tmp_path: Path
) -> None:
    scripts = sysconfig.get_path("scripts")
    tool = shutil.which("schemathesis", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    if tool is None:
        pytest.skip("schemathesis is not installed: pip install schemathesis")
    hashed = hashlib.sha256(SECRET.encode()).hexdigest()
    token = SecretStr(f"tester read,rescan,decide,vendor-vex {hashed}")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    async with api_under_test(kafka_settings, postgres_url) as api:
        documented = Digest("sha256:" + "0123456789abcdef" * 4)  # the example in our OpenAPI
        await api.publish(
            dataclasses.replace(fill.record(1, 20, 1_700_000_000_000_000), image=Image(documented)),
            absence("waiting", DocumentState.AWAITING_SCAN),
        )
        async with api.serving(api_tokens=token) as base:
            process = await asyncio.create_subprocess_exec(
                tool, "--config-file", str(config), "run", f"{base}/openapi.json",
                "--url", base, "--max-examples", EXAMPLES, "--seed", "1",
                "--exclude-path", "/stream",  # it never ends; test_api_history.py reads it
                "--phases", "examples,coverage,fuzzing",
                "--request-timeout", "20", "--header", f"Authorization: Bearer {SECRET}",
                "--no-color", cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            try:
                async with asyncio.timeout(SECONDS):
                    out, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    assert process.returncode == 0, out.decode()[-20_000:]
