"""``vexstream get``, ``watch`` and ``diff`` against the real service."""

import asyncio
import json
import sys

import pytest

from services.common.settings import CommonSettings
from tests.support.api import api_under_test, digest, document, openvex, statement

pytestmark = pytest.mark.real

DIGEST = digest("app")


async def _run(base: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", *arguments, "--url", base,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_people_get_tables_and_machines_json_and_exit_codes(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    hostile = "pkg:deb/debian/\x1b[2Jzlib1g@1"
    before = openvex(statement("CVE-1", status="not_affected"), statement("CVE-2"))
    after = openvex(statement("CVE-1", hostile), statement("CVE-2", status="not_affected"))
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document(body=before), document(version=2, body=after))
        async with api.serving() as base:
            status, out, _ = await _run(base, "get", DIGEST)
            assert status == 0
            assert "CVE-1" in out
            assert "1 affected" in out
            assert "\x1b" not in out
            assert (await _run(base, "get", DIGEST, "--fail-on", "affected"))[0] == 1
            assert (await _run(base, "get", DIGEST, "--fail-on", "fixed"))[0] == 0
            assert (await _run(base, "get", DIGEST, "--fail-on", "fine"))[0] == 2
            status, out, _ = await _run(base, "get", DIGEST, "--json")
            assert (status, json.loads(out)) == (0, json.loads(after))
            status, _, error = await _run(base, "get", digest("nothing"))
            assert status == 3
            assert "No container of an image" in error

            status, out, _ = await _run(base, "diff", DIGEST, "--exit-code")
            assert status == 1
            assert "~ CVE-2 pkg:deb/debian/zlib1g@1.2.13 affected to not_affected" in out
            status, out, _ = await _run(base, "diff", DIGEST, "--from", "1", "--to", "1", "--json")
            assert (status, json.loads(out)["changed"]) == (0, [])
            assert (await _run(base, "diff", DIGEST, "--from", "9"))[0] == 3
        status, _, error = await _run(base, "get", DIGEST)
        assert status == 4
        assert "--url" in error


async def test_watching_ends_when_an_image_is_learnt_or_the_time_is_over(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    learning = document().learning
    learnt = document(version=2, learning=type(learning)(True, 1_000_000, 1, ()))
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document())
        async with api.serving() as base:
            waiting = asyncio.create_task(
                _run(base, "watch", DIGEST, "--json", "--until-learnt", "--timeout", "20")
            )
            for _ in range(100):  # until it reads: what came before is not told
                if api.readers():
                    break
                await asyncio.sleep(0.1)
            await api.publish(document("another"), learnt)
            status, out, error = await waiting
            assert status == 0, error
            # Nothing is told when it had become so just before the stream was open.
            told = [json.loads(line) for line in out.splitlines()]
            assert [(e["config_digest"], e["version"]) for e in told] in ([], [(DIGEST, 2)])
            assert (await _run(base, "watch", DIGEST, "--until-learnt"))[0] == 0
            assert (await _run(base, "watch", DIGEST, "--timeout", "0.5"))[0] == 5
        assert (await _run(base, "watch", DIGEST, "--timeout", "5"))[0] == 4
