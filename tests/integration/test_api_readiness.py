"""Whether the API is ready is not decided by what its clients keep its database busy with."""

import asyncio

import asyncpg
import pytest

from services.common.settings import CommonSettings
from tests.support.api import api_under_test, digest, document, ready

pytestmark = pytest.mark.real


async def test_slow_requests_of_clients_do_not_take_it_out_of_service(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a"))
        async with api.running(database_connections=1) as client:
            await ready(client)
            holder = await asyncpg.connect(api._url_of(api.database))
            try:
                await holder.execute("BEGIN; LOCK TABLE document IN ACCESS EXCLUSIVE MODE")
                slow = [asyncio.create_task(client.get("/images")) for _ in range(4)]
                await asyncio.sleep(0.5)
                async with asyncio.timeout(3):  # as kubelet does
                    looks = await asyncio.gather(*[client.get("/readyz") for _ in range(20)])
                assert {look.status_code for look in looks} == {200}
            finally:
                await holder.close()
            answers = {(await one).status_code for one in slow}
            assert answers == {200}, "as soon as it may"
            assert (await client.get(f"/vex/{digest('a')}")).status_code == 200
