"""The web application of the benchmark with its files, and the client, which is not measured."""

import contextlib
import http.client
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.collector.stage import on_overlay

_APPLICATION = Path(__file__).with_name("webapp.py")
_SHELVES = 50
_PRODUCTS = 40


@contextlib.contextmanager
def application() -> Iterator[Callable[[int], float]]:
    """Answers so many requests, and tells its own CPU seconds of them."""
    with tempfile.TemporaryDirectory() as layer:
        _write_shelves(Path(layer, "srv/shop"))
        # Not `resolve`d: the packages are those of the virtual environment.
        with on_overlay(sys.executable, "-I", str(_APPLICATION), layer=Path(layer)) as ask:
            client = http.client.HTTPConnection("127.0.0.1", int(ask("port")), timeout=30)

            def serve(requests: int) -> float:
                before = ask("cpu")
                for n in range(requests):
                    _get(client, f"/shelves/{n % _SHELVES}")
                return ask("cpu") - before

            yield serve
            client.close()


def _get(client: http.client.HTTPConnection, path: str) -> None:
    client.request("GET", path)
    answer = client.getresponse()
    page = answer.read()
    if answer.status != http.HTTPStatus.OK or len(page) < 10_000:
        raise SystemExit(f"{path}: {answer.status}, {len(page)} bytes")


def _write_shelves(folder: Path) -> None:
    """JSON files of some kilobytes each."""
    folder.mkdir(parents=True)
    for shelf in range(_SHELVES):
        products = [
            {
                "number": 1000 * shelf + n,
                "name": f"Product {n} & what belongs to it",
                "text": f"Made for shelf {shelf}, <b>sold</b> by the piece, and kept dry. " * 2,
                "price": f"{n}.{shelf:02}",
                "tags": ["new", f"shelf-{shelf}", "dry goods"],
            }
            for n in range(_PRODUCTS)
        ]
        text = json.dumps({"title": f"Shelf {shelf}", "products": products})
        Path(folder, f"{shelf}.json").write_text(text)
