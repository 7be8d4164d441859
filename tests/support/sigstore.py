"""A Sigstore of our own on the loopback address, out of its real servers: Fulcio with a certificate
authority in a file, a certificate log (TesseraCT), a transparency log (Rekor v2) and a timestamp
authority. Only the issuer of identities is ours: it serves its keys and signs what a test asks for.
``scripts/bootstrap keyless`` builds the servers."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.local.ports import free_port, listens
from services.local.process import Daemon

_BINARIES = Path(__file__).parents[2] / ".cache/bin"
_SERVERS = ("fulcio", "tesseract-posix", "rekor-server-posix", "timestamp-server")
_READY_SECONDS = 60
_AUDIENCE = "sigstore"
_PASSWORD = "loopback"


WORKFLOW = "acme/web/.github/workflows/ci.yml@refs/heads/main"
"""The workflow whose jobs get tokens."""
_CLAIMS = {
    "sub": "repo:acme/web:ref:refs/heads/main", "job_workflow_ref": WORKFLOW,
    "workflow_ref": WORKFLOW, "workflow": "image", "event_name": "push",
    "ref": "refs/heads/main", "repository": "acme/web", "repository_id": "1",
    "repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public",
    "runner_environment": "github-hosted", "run_id": "3", "run_attempt": "1",
    **dict.fromkeys(("sha", "job_workflow_sha", "workflow_sha"), "a" * 40),
}  # fmt: skip
"""What GitHub's tokens say; Fulcio wants all of it."""
_JOB = "a job's own"
"""With what a job asks for its token."""


class Issuer:
    """Issues identity tokens, and serves the key with which to check them; to jobs of a workflow,
    who ask as GitHub's do, it hands tokens out itself."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Issuer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, email: str, seconds: int = 300) -> str:
        """A token that says who its bearer is."""
        claims = {"sub": email, "email": email, "email_verified": True}
        return self._issue(claims, _AUDIENCE, seconds)

    def job(self) -> dict[str, str]:
        """The variables by which a job of GitHub's with ``id-token: write`` gets its token."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": _JOB,
        }

    def _issue(self, claims: dict[str, Any], audience: str, seconds: int = 300) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + seconds}
        told = {"iss": self.url, "aud": audience, **times, **claims}
        return jwt.encode(told, self._key, algorithm="ES256", headers={"kid": "1"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                theirs = self.headers.get("Authorization") == f"bearer {_JOB}"
                denied = asked.path == "/token" and not theirs
                body = json.dumps({} if denied else issuer._answer(asked)).encode()
                self.send_response(401 if denied else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler

    def _answer(self, asked: SplitResult) -> dict[str, Any]:
        if asked.path == "/token":
            return {"value": self._issue(_CLAIMS, parse_qs(asked.query)["audience"][0])}
        if asked.path.endswith("openid-configuration"):
            return {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [key | {"kid": "1", "use": "sig", "alg": "ES256"}]}


class Sigstore:
    """The servers, while a ``with`` block runs; clients are given ``trust_config``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.issuer = Issuer()
        self.github = Issuer()
        self.trust_config = folder / "trust-config.json"
        self._folder = folder
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self._ca_key, self._ca = _authority("fulcio")
        self._log_key = ec.generate_private_key(ec.SECP256R1())
        self._rekor_key = ec.generate_private_key(ec.SECP256R1())
        self._stamper_key, self._stamper = _stamper(*_authority("timestamps"))

    def __enter__(self) -> "Sigstore":
        with ExitStack() as stack:
            stack.enter_context(self.issuer)
            stack.enter_context(self.github)
            for start in (self._ct_log, self._fulcio, self._timestamps, self._rekor):
                start(stack)
            self._stack = stack.pop_all()
        self.trust_config.write_text(json.dumps(self._trust()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _ct_log(self, stack: ExitStack) -> None:
        storage = self._folder / "ct-storage"
        storage.mkdir()
        self._start(
            stack, "tesseract-posix", "ct",
            "-http_endpoint", self._listen("ct"), "-origin", "ct.test",
            "-roots_pem_file", self._file("fulcio.pem", _pem(self._ca)),
            "-private_key", self._file("ct.key", _pem(self._log_key)),
            "-storage_dir", str(storage), "-checkpoint_interval", "100ms",
            "-batch_max_age", "50ms",
        )  # fmt: skip

    def _fulcio(self, stack: ExitStack) -> None:
        kinds = {self.issuer.url: "email", self.github.url: "github-workflow"}
        issuers = {
            "OIDCIssuers": {
                url: {"IssuerURL": url, "ClientID": _AUDIENCE, "Type": kind}
                for url, kind in kinds.items()
            }
        }
        self._start(
            stack, "fulcio", "ca",
            "serve", "--host", "127.0.0.1", "--port", self._port("ca"), "--grpc-host", "127.0.0.1",
            "--grpc-port", self._port("ca-grpc"), "--metrics-port", self._port("ca-metrics"),
            "--legacy-unix-domain-socket", str(self._folder / "fulcio.sock"),
            "--ca", "fileca", "--fileca-cert", str(self._folder / "fulcio.pem"),
            "--fileca-key", self._file("fulcio.key", _pem(self._ca_key, _PASSWORD)),
            "--fileca-key-passwd", _PASSWORD, "--fileca-watch=false",
            "--ct-log-url", f"http://127.0.0.1:{self._ports['ct']}",
            "--config-path", self._file("fulcio.json", json.dumps(issuers).encode()),
        )  # fmt: skip

    def _timestamps(self, stack: ExitStack) -> None:
        chain = b"".join(_pem(certificate) for certificate in self._stamper)
        self._start(
            stack, "timestamp-server", "tsa",
            "serve", "--host", "127.0.0.1", "--port", self._port("tsa"), "--scheme", "http",
            "--timestamp-signer", "file", "--disable-ntp-monitoring",
            "--file-signer-key-path", self._file("tsa.key", _pem(self._stamper_key, _PASSWORD)),
            "--file-signer-passwd", _PASSWORD,
            "--certificate-chain-path", self._file("tsa.pem", chain),
        )  # fmt: skip

    def _rekor(self, stack: ExitStack) -> None:
        storage = self._folder / "rekor-storage"
        storage.mkdir()
        self._start(
            stack, "rekor-server-posix", "rekor",
            "serve", "--http-port", self._port("rekor"), "--grpc-port", self._port("rekor-grpc"),
            "--http-metrics-port", self._port("rekor-metrics"), "--hostname", "rekor.test",
            "--storage-dir", str(storage), "--checkpoint-interval", "200ms",
            "--batch-max-age", "50ms",
            "--signer-filepath", self._file("rekor.key", _pem(self._rekor_key)),
        )  # fmt: skip

    def _start(self, stack: ExitStack, server: str, name: str, *arguments: str) -> None:
        daemon = Daemon(
            name, [str(_BINARIES / server), *arguments],
            log=self._folder / f"{name}.log", cwd=self._folder,
        )  # fmt: skip
        stack.enter_context(daemon)
        port = self._ports[name]
        daemon.wait_ready(lambda: listens(port), _READY_SECONDS)

    def _port(self, name: str) -> str:
        self._ports[name] = free_port()
        return str(self._ports[name])

    def _listen(self, name: str) -> str:
        return f"127.0.0.1:{self._port(name)}"

    def _file(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.write_bytes(content)
        return str(path)

    def _trust(self) -> dict[str, Any]:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [_log(urls["rekor"], self._rekor_key)],
                "certificateAuthorities": [_chain(urls["ca"], [self._ca])],
                "ctlogs": [_log(urls["ct"], self._log_key)],
                "timestampAuthorities": [_chain(urls["tsa"], self._stamper)],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [_service(urls["ca"], 1)],
                "oidcUrls": [_service(self.issuer.url, 1)],
                "rekorTlogUrls": [_service(urls["rekor"], 2)],
                "tsaUrls": [_service(f"{urls['tsa']}/api/v1/timestamp", 1)],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }


@pytest.fixture(scope="session")
def sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sigstore]:
    """A Sigstore on this machine; skips where its servers have not been built."""
    missing = [name for name in _SERVERS if not (_BINARIES / name).is_file()]
    if missing:
        pytest.skip(f"no {', '.join(missing)} in .cache/bin: run scripts/bootstrap keyless")
    with Sigstore(tmp_path_factory.mktemp("sigstore") / "servers") as running:
        yield running


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _certificate(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return key, builder.sign(key, hashes.SHA256())


def _stamper(
    authority: ec.EllipticCurvePrivateKey, root: x509.Certificate
) -> tuple[ec.EllipticCurvePrivateKey, list[x509.Certificate]]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _certificate("stamper", "timestamps", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
    )
    return key, [builder.sign(authority, hashes.SHA256()), root]


def _certificate(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "loopback"),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ])  # fmt: skip


def _usage(**allowed: bool) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**dict.fromkeys(every, False) | allowed)


def _pem(thing: x509.Certificate | ec.EllipticCurvePrivateKey, password: str = "") -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    pem = serialization.Encoding.PEM
    if not password:
        openssl = serialization.PrivateFormat.TraditionalOpenSSL
        return thing.private_bytes(pem, openssl, serialization.NoEncryption())
    encryption = serialization.BestAvailableEncryption(password.encode())
    return thing.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)


def _log(url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _base64(der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": _valid()
        },
        "logId": {"keyId": _base64(hashlib.sha256(der).digest())},
    }  # fmt: skip


def _chain(url: str, certificates: list[x509.Certificate]) -> dict[str, Any]:
    listed = [
        {"rawBytes": _base64(one.public_bytes(serialization.Encoding.DER))} for one in certificates
    ]
    return {
        "subject": {"organization": "loopback", "commonName": "loopback"},
        "uri": url,
        "certChain": {"certificates": listed},
        "validFor": _valid(),
    }


def _service(url: str, version: int) -> dict[str, Any]:
    return {"url": url, "majorApiVersion": version, "validFor": _valid(), "operator": "loopback"}


def _valid() -> dict[str, str]:
    return {"start": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
