"""The subscribers in examples/ read a real broker."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from services.common.settings import CommonSettings
from services.common.topics import Topic
from tests.support.api import absence, api_under_test, digest, document
from vexstream.document import DocumentState

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        async with asyncio.timeout(40):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, error.decode()
    return out.decode()


async def test_the_examples_see_every_image(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    topic = Topic.VEX_DOCUMENT.name_in(kafka_settings)
    broker = kafka_settings.kafka_bootstrap_servers
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("shop"), document("shop", version=2), document("gone"))
        await api.publish(absence("cart", DocumentState.AWAITING_SCAN))
        await api.publish_raw(digest("gone").encode(), None)
        await api.publish_raw(digest("newer").encode(), b"\xc3\x01 of another schema")

    group = f"{kafka_settings.topic_prefix}example"
    arguments = ("--bootstrap", broker, "--topic", topic, "--group", group, "--once")
    lines = (await _output(sys.executable, "examples/subscribe.py", *arguments)).splitlines()
    counts = "1 affected, 2 not_affected"
    assert f"registry.example/shop: version 2, 1 statements ({counts})" in lines
    assert "registry.example/cart: awaiting_scan" in lines
    assert f"{digest('gone')}: deleted" in lines
    assert not any("newer" in line for line in lines)
    again = await _output(sys.executable, "examples/subscribe.py", *arguments)
    assert again == ""  # it has kept its place

    if shutil.which("kcat") is None:
        pytest.skip("the Python example was checked; kcat is not installed: apt-get install kcat")
    listed = await _output("examples/subscribe-kcat.sh", broker, topic)
    newest = dict(line.split(" ", 1) for line in listed.splitlines())
    assert newest[digest("gone")].startswith("deleted at ")
    assert " bytes at " in newest[digest("shop")]
    assert set(newest) == {digest(name) for name in ("shop", "gone", "cart", "newer")}
