"""The web page at ``/`` and the API's reference at ``/docs``, all served from this package.

Nothing is fetched from elsewhere, and the Content-Security-Policy forbids it.
"""

import functools
import gzip
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.api.conditional import accepts_gzip, etag, matching_tag

router = APIRouter(include_in_schema=False)

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP.format(styles=""),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# Swagger UI sets styles of its own from its script.
_DOCS_HEADERS = _HEADERS | {"Content-Security-Policy": _CSP.format(styles=" 'unsafe-inline'")}
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_PAGE = files("services.api") / "page"
_OWN = frozenset(file.name for file in _PAGE.iterdir()) - {"index.html"}
_SWAGGER = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})

_DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>vexstream API</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body></html>
"""
_START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});'


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, _own("index.html"), ".html", _HEADERS)


@router.get("/page/{name}")
async def part(request: Request, name: str) -> Response:
    """Scripts, style and icon of the page."""
    if name not in _OWN:
        raise HTTPException(404)
    return _answer(request, _own(name), Path(name).suffix, _HEADERS)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's reference."""
    return _answer(request, _DOCS.encode(), ".html", _DOCS_HEADERS)


@router.get("/docs/{name}")
async def docs_part(request: Request, name: str) -> Response:
    """Script and style of the reference."""
    if name == "start.js":
        return _answer(request, _START.encode(), ".js", _DOCS_HEADERS)
    if name not in _SWAGGER:
        raise HTTPException(404)
    return _answer(request, _swagger(name), Path(name).suffix, _DOCS_HEADERS)


def _answer(request: Request, body: bytes, suffix: str, headers: dict[str, Any]) -> Response:
    sha256 = hashlib.sha256(body).hexdigest()
    gzipped = accepts_gzip(request.headers.get("accept-encoding", ""))
    told = headers | {"ETag": etag(sha256, gzipped=gzipped), "Vary": "Accept-Encoding"}
    tag = matching_tag(request.headers.get("if-none-match", ""), sha256, gzipped=gzipped)
    if tag:
        return Response(status_code=304, headers=told | {"ETag": tag})
    if gzipped:
        body = _packed(body)
        told["Content-Encoding"] = "gzip"
    return Response(body, headers=told, media_type=_TYPES[suffix])


@functools.cache
def _packed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


@functools.cache
def _own(name: str) -> bytes:
    return (_PAGE / name).read_bytes()


@functools.cache
def _swagger(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()
