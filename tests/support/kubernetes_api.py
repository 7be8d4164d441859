"""A stand-in for Kubernetes' API server: one kind of resource, and what a client must reckon with:
tokens, versions that must match, pages, resources that are not found, refusals."""

import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from vexstream.kubescape import API_VERSION, PLURAL

_PATH = re.compile(rf"/apis/{re.escape(API_VERSION)}/namespaces/([a-z0-9-]+)/{PLURAL}(?:/([^/]+))?")


class KubernetesApi:
    """Serves while the block runs; ``stored`` holds the resources by name."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.stored: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        """Method and name of each request that changed something."""
        self.down = False
        self.installed = True
        """Whether the kind exists."""
        self.largest = 1 << 20
        """Bytes of a body."""
        self._versions = itertools.count(1)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def do_PUT(self) -> None:
                self._answer("PUT")

            def do_DELETE(self) -> None:
                self._answer("DELETE")

            def _answer(self, method: str) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, answer = api.answer(method, self.path, body, token)
                content = json.dumps(answer).encode() if answer is not None else b"404 not found"
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(
        self, method: str, target: str, body: bytes, token: str
    ) -> tuple[int, dict[str, Any] | None]:
        """(HTTP status, body); no body is what an unknown path gets."""
        split = urlsplit(target)
        match = _PATH.fullmatch(split.path)
        if self.down:
            return 503, _status("the server is down")
        if token != self.token:
            return 401, _status("Unauthorized")
        if match is None or not self.installed:
            return 404, None
        if len(body) > self.largest:
            return 413, _status("limit is 1 MiB")
        name = match[2]
        if method == "GET" and name is None:
            return 200, self._page(parse_qs(split.query))
        if method == "POST":
            return self._create(json.loads(body))
        if name not in self.stored:
            return 404, _status("not found", name)
        if method == "GET":
            return 200, self.stored[name]
        self.writes.append(f"{method} {name}")
        if method == "DELETE":
            return 200, self.stored.pop(name)
        return self._replace(name, json.loads(body))

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        key, _, value = query["labelSelector"][0].partition("=")
        fitting = [
            item
            for _, item in sorted(self.stored.items())
            if (item["metadata"].get("labels") or {}).get(key) == value
        ]
        start = int((query.get("continue") or ["0"])[0] or 0)
        end = start + min(int(query["limit"][0]), 2)
        more = {"continue": str(end)} if end < len(fitting) else {}
        return {"kind": "List", "metadata": more, "items": fitting[start:end]}

    def _create(self, item: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = item["metadata"]["name"]
        if name in self.stored:
            return 409, _status("already exists", name)
        self.writes.append(f"POST {name}")
        return 201, self._store(name, item)

    def _replace(self, name: str, item: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        there = self.stored[name]["metadata"]["resourceVersion"]
        if item["metadata"].get("resourceVersion") != there:
            return 409, _status("the object has been modified", name)
        return 200, self._store(name, item)

    def _store(self, name: str, item: dict[str, Any]) -> dict[str, Any]:
        metadata = item["metadata"] | {"resourceVersion": str(next(self._versions)), "uid": name}
        self.stored[name] = item | {"metadata": metadata}
        return self.stored[name]


def _status(message: str, name: str | None = None) -> dict[str, Any]:
    details = {"details": {"name": name}} if name else {}
    return {"kind": "Status", "apiVersion": "v1", "message": message, **details}
