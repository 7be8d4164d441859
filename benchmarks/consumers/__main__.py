"""Runs every case of tests/support/consumer_cases.py and writes the table into docs/consumers.md.

    python -m benchmarks.consumers           print the table
    python -m benchmarks.consumers --write   and put it into the documentation

It needs what the tests need (scripts/bootstrap test). It takes about a minute.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from services.api.app import create_app
from services.common.settings import CommonSettings
from services.local.broker import Tansu
from services.local.postgres import Postgres
from services.publish.signing import LocalSigner
from tests.support.api import api_under_test, document
from tests.support.consumer_cases import FILE_CASES, OCI_CASES, REPOSITORY_CASES, Case
from tests.support.consumers import Outcome, Stage, prepare, use_repository
from tests.support.go import build
from tests.support.registry import LocalRegistry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/consumers.md"
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"

Row = tuple[Case, Outcome]


def main() -> int:
    """Returns how many promises were not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consumers")
    parser.add_argument("--write", action="store_true", help=f"write into {PAGE.name}")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory(prefix="vx-", ignore_cleanup_errors=True) as work:
        rows = _rows(Path(work))
    table = _table(rows)
    sys.stdout.write(table)
    if write:
        text = PAGE.read_text("utf-8")
        filled = re.sub(
            f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{table}{_END}", text, flags=re.DOTALL
        )
        PAGE.write_text(filled, "utf-8")
    return sum(not case.promise.holds(outcome) for case, outcome in rows)


def _rows(work: Path) -> list[Row]:
    go_program = build("trivydb", work / "trivydb")
    cache = Path(os.environ.get("VEXSTREAM_CACHE", ROOT / ".cache")) / "images"
    with LocalRegistry(work / "registry") as registry:
        stage = prepare(
            work, cache, registry, str(_tool("trivy")), go_program, _tool("grype"), _tool("syft")
        )
        rows = [(case, case.run(stage)) for case in FILE_CASES]
        stage.attach(LocalSigner(ec.generate_private_key(ec.SECP256R1())), stage.document)
        rows += [(case, case.run(stage)) for case in OCI_CASES]
        return rows + asyncio.run(_repository_rows(stage, work))


async def _repository_rows(stage: Stage, work: Path) -> list[Row]:
    async with _api(stage, work) as url:
        use_repository(stage, url)
        return [(case, await asyncio.to_thread(case.run, stage)) for case in REPOSITORY_CASES]


@contextlib.asynccontextmanager
async def _api(stage: Stage, work: Path) -> AsyncIterator[str]:
    """Our API with the document, on a broker and a database of its own."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Tansu(work / "broker"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vx-")))
        postgres = stack.enter_context(Postgres(folder))
        settings = CommonSettings(kafka_bootstrap_servers=broker.bootstrap, partitions=1)
        async with api_under_test(settings, postgres.create_database("consumers")) as api:
            sha256 = hashlib.sha256(stage.document).hexdigest()
            await api.publish(document(image=stage.image, body=stage.document, sha256=sha256))
            app = create_app(api.settings)
            async with app.router.lifespan_context(app), api.listening(app) as url:
                state = app.state.vexstream
                state.settings = state.settings.model_copy(update={"public_url": url})
                await api.settled()
                yield url


def _table(rows: Iterable[Row]) -> str:
    lines = [
        "| consumer | takes | about | findings | ruled out by us | left out | of others |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for case, outcome in rows:
        right = len(outcome.suppressed & outcome.expected)
        wrong = len(outcome.suppressed - outcome.expected)
        lines.append(
            f"| {case.consumer} | {case.form} | {case.target} | {len(outcome.before)} "
            f"| {len(outcome.expected)} | {right} | {wrong} |"
        )
    return "\n".join(lines) + "\n"


def _tool(name: str) -> Path:
    places = [str(ROOT / ".cache/bin"), os.environ.get("PATH", ""), sysconfig.get_path("scripts")]
    named = os.environ.get(f"VEXSTREAM_{name.upper()}", name)
    found = shutil.which(named, path=os.pathsep.join(places))
    if found is None:
        raise SystemExit(f"{name} is not installed: scripts/bootstrap test")
    return Path(found).absolute()


if __name__ == "__main__":
    sys.exit(main())
