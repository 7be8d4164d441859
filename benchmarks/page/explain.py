"""How Postgres answers the lists of the page: the plan of each statement, on a filled database.

``python -m benchmarks.page.explain --database URL`` with the URL that ``benchmarks.page.served``
prints. Each statement is caught as the code sends it and explained with its own arguments.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.api.fill import image
from services.api import fleet_store, image_statements_store, statement_store
from services.api.database import ReadConnection
from services.api.fleet_store import FleetFilters
from services.api.image_statements_store import StatementFilters
from services.api.statement_store import Filters

Read = Callable[[ReadConnection], Awaitable[Any]]

LARGE = image(0).config_digest
READS: dict[str, Read] = {
    "images, first page": lambda c: fleet_store.page_of_fleet(c, FleetFilters(), None, 51),
    "images, a later page": lambda c: fleet_store.page_of_fleet(
        c, FleetFilters(), (1100.0, ""), 51
    ),
    "images of a namespace": lambda c: fleet_store.page_of_fleet(
        c, FleetFilters(namespace="payments"), None, 51
    ),
    "images with a package": lambda c: fleet_store.page_of_fleet(
        c, FleetFilters(package="zlib1g"), None, 51
    ),
    "images by a text": lambda c: fleet_store.page_of_fleet(
        c, FleetFilters(text="CVE-2091-10056"), None, 51
    ),
    "search": lambda c: fleet_store.search(c, "CVE-2091-1005"),
    "figures of the fleet": lambda c: fleet_store.fleet_figures(c, 9),
    "statements of an image, first page": lambda c: image_statements_store.page_of_statements(
        c, LARGE, StatementFilters(), None, 101
    ),
    "statements of an image, filtered": lambda c: image_statements_store.page_of_statements(
        c, LARGE, StatementFilters(statuses=("affected",), text="openssl"), None, 101
    ),
    "statements on a vulnerability": lambda c: statement_store.page_of_statements(
        c, "CVE-2091-10056", Filters(("affected",)), None, 101
    ),
}


async def explain(
    database: str, *preparing: str, reads: Mapping[str, Read] = READS
) -> AsyncIterator[tuple[str, list[str]]]:
    """Yields the name of a read and the plan of each of its statements."""
    engine = create_async_engine(database, isolation_level="AUTOCOMMIT")
    caught: list[tuple[str, Any]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def catch(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        caught.append((statement, parameters))

    try:
        async with engine.connect() as connection:
            for statement in preparing:
                await connection.exec_driver_sql(statement)
            for name, read in reads.items():
                caught.clear()
                await read(ReadConnection(connection))
                plans = []
                for statement, parameters in list(caught):
                    plan = await connection.exec_driver_sql(
                        f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", parameters
                    )
                    plans.append("\n".join(line for (line,) in plan))
                yield name, plans
    finally:
        await engine.dispose()


async def _print(database: str) -> None:
    async for name, plans in explain(database, "ANALYZE"):
        print(f"## {name}\n")
        print("\n\n".join(plans) + "\n", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", required=True, help="postgresql+asyncpg://…")
    asyncio.run(_print(parser.parse_args().database))


if __name__ == "__main__":
    main()
