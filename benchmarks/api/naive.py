"""The naive way to serve a document: parse it, put it through a response model, dump it.

``uvicorn benchmarks.api.naive:app`` with VEXSTREAM_DATABASE_URL set.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel, Field


class Component(BaseModel):
    """A package."""

    id: str = Field(alias="@id")


class Product(BaseModel):
    """An image."""

    id: str = Field(alias="@id")
    subcomponents: list[Component]


class Vulnerability(BaseModel):
    """A CVE."""

    name: str
    aliases: list[str] = []


class Statement(BaseModel):
    """One statement."""

    vulnerability: Vulnerability
    timestamp: str
    products: list[Product]
    status: str
    justification: str | None = None
    impact_statement: str | None = None
    status_notes: str | None = None
    action_statement: str | None = None


class Document(BaseModel):
    """An OpenVEX document."""

    context: str = Field(alias="@context")
    id: str = Field(alias="@id")
    author: str
    timestamp: str
    version: int
    statements: list[Statement]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["VEXSTREAM_DATABASE_URL"].replace("+asyncpg", "")
    app.state.pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=_lifespan)


@app.get("/vex/{digest}", response_model=Document)
async def document(digest: str) -> Any:
    """The document, built anew for each request."""
    body = await app.state.pool.fetchval(
        "SELECT body FROM document WHERE config_digest = $1", digest
    )
    return json.loads(body)
