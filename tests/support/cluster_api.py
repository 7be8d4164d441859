"""What the collector asks of an API server: the UID of one namespace, with TLS and a token."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.support.authorities import Authority

UID = "2f6c3b1e-8d1c-4a53-9a1a-7f1d3c7e9a10"


class ClusterApi:
    """Serves while the block runs; ``account`` is the folder that a pod would be given."""

    def __init__(self, folder: Path) -> None:
        self.uid = UID
        self.status = 200
        self.asked = 0
        self.account = folder / "account"
        self.account.mkdir()
        key, certificate = Authority(self.account, "ca").sign_server(folder, "api")
        (self.account / "token").write_text("secret\n")
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked += 1
                known = self.headers["Authorization"] == "Bearer secret"
                there = self.path == "/api/v1/namespaces/kube-system"
                self.send_response(api.status if known and there else 403)
                self.end_headers()
                self.wfile.write(json.dumps({"metadata": {"uid": api.uid}}).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.variables = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._server.server_port),
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()
