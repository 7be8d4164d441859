"""Who may do what: tokens with scopes, the rate limit, and how large a request may be.

Tokens are known by their SHA-256 alone. They are long random strings, so no slow hash is needed:
``openssl rand -hex 32`` makes one, ``printf %s "$TOKEN" | sha256sum`` its line in the file.
"""

import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api import problems
from services.api.errors import ApiError
from services.api.problems import Kind, ProblemError, problem_response
from services.api.settings import ApiSettings

CLIENTS = 10_000
"""Clients whose rate is remembered; the ones heard of longest ago are forgotten first."""

MAX_BODY_BYTES = 256 * 1024
_LARGE = "/vendor-vex"
"""Reads its body itself, and only for a token (vendor_vex.py)."""

_OF_NOTHING = hashlib.sha256().hexdigest()

_LINE = re.compile(r"(?P<name>\S+)\s+(?P<scopes>[a-z,-]+)\s+(?P<sha256>[0-9a-f]{64})")
_OPEN = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/page/", "/problems/")
_UNLIMITED = ("/healthz", "/readyz", "/metrics")


class Right(StrEnum):
    """What a token may be for."""

    READ = "read"
    RESCAN = "rescan"
    DECIDE = "decide"
    VENDOR_VEX = "vendor-vex"


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without the token."""

    name: str
    rights: frozenset[Right]


class TokenError(ApiError):
    """The tokens cannot be read; the text names the line."""


class Tokens:
    """The tokens that are known, by their hashes."""

    def __init__(self, by_hash: dict[str, Token]) -> None:
        self._by_hash = by_hash

    @classmethod
    def load(cls, settings: ApiSettings) -> "Tokens":
        """Reads the file and the variable.

        Raises:
            TokenError: there is no such file, a line is no token, or that of an empty one, or two
                give one token different scopes: which of them hold, nobody could tell.
        """
        lines: list[str] = []
        if settings.api_tokens_file is not None:
            try:
                lines += Path(settings.api_tokens_file).read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise TokenError(f"VEXSTREAM_API_TOKENS_FILE: {error}") from error
        if settings.api_tokens is not None:
            lines += settings.api_tokens.get_secret_value().splitlines()
        known: dict[str, Token] = {}
        for number, line in enumerate(lines, 1):
            if not _says(line):
                continue
            sha256, token = _token(line, number)
            if sha256 == _OF_NOTHING:
                raise TokenError(
                    f"line {number} of the API's tokens is the hash of nothing, with which anybody "
                    "would have its scopes: was the variable empty that it was made of?"
                )
            if known.get(sha256, token) != token:
                raise TokenError(
                    f"line {number} of the API's tokens: the token of {token.name} is there "
                    "already, with another name or other scopes"
                )
            known[sha256] = token
        return cls(known)

    def find(self, authorization: str) -> Token | None:
        """Whose token a header holds, None when it is nobody's."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        # What a clock could tell of this look-up is about the hash, which is of no use.
        return self._by_hash.get(hashlib.sha256(secret.strip().encode()).hexdigest())

    def authorize(self, request: Request, right: Right) -> Token:
        """The token of a request.

        Raises:
            ProblemError: 401 without a token that is known, 403 without the right.
        """
        token = self.find(request.headers.get("authorization", ""))
        refused = _refusal(token, right)
        if refused is not None or token is None:
            raise refused or _no_token(right)
        return token


class Access:
    """ASGI middleware: the rate limit, and the token for reads where one is required."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ApiSettings,
        tokens: Tokens,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._tokens = tokens
        self._limit = RateLimit(settings.rate_limit_per_second, settings.rate_limit_burst, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers with a problem."""
        refused = self._refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            limited = scope["type"] == "http" and scope["path"] != _LARGE
            await self._app(scope, _bounded(receive) if limited else receive, send)
            return
        url = self._settings.public_url
        answer = problem_response(
            Request(scope), url, refused.kind, refused.detail, refused.headers
        )
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        path, method = scope["path"], scope["method"]
        if path in _UNLIMITED:
            return None
        token = self._tokens.find(Headers(scope=scope).get("authorization", ""))
        client = token.name if token else (scope.get("client") or ("",))[0]
        wait_s = self._limit.wait_s(client)
        if wait_s > 0:
            return ProblemError(
                problems.TOO_MANY_REQUESTS,
                f"More than {self._settings.rate_limit_per_second:g} requests a second: wait "
                f"{math.ceil(wait_s)} s.",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        closed = self._settings.reads_need_token and path != "/" and not path.startswith(_OPEN)
        if closed and method in ("GET", "HEAD"):
            return _refusal(token, Right.READ)
        return None


def _bounded(receive: Receive) -> Receive:
    """No more of a body than a request may have: the framework reads all of it before it looks at
    the token."""
    left = MAX_BODY_BYTES

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return bounded


class RateLimit:
    """A token bucket for each client; a rate of 0 is no limit."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Takes one request; 0 when it may pass, else how long to wait."""
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        left, then = self._buckets.pop(client, (float(self._burst), now))
        left = min(left + (now - then) * self._rate, self._burst)
        passes = left >= 1
        self._buckets[client] = (left - 1 if passes else left, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - left) / self._rate


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _token(line: str, number: int) -> tuple[str, Token]:
    found = _LINE.fullmatch(line.strip())
    form = "expected NAME SCOPE,SCOPE SHA256-OF-THE-TOKEN"
    if found is None:
        raise TokenError(f"line {number} of the API's tokens is none: {form}")
    try:
        rights = frozenset(Right(scope) for scope in found["scopes"].split(","))
    except ValueError as error:
        there = ", ".join(Right)
        raise TokenError(
            f"line {number} of the API's tokens: {error}; there are {there}"
        ) from error
    return found["sha256"], Token(found["name"], rights)


def _refusal(token: Token | None, right: Right) -> ProblemError | None:
    if token is None:
        return _no_token(right)
    if right not in token.rights:
        return _problem(problems.FORBIDDEN, f"The token {token.name} has no scope {right}.", right)
    return None


def _no_token(right: Right) -> ProblemError:
    detail = f"Send a token with the scope {right} in the header Authorization: Bearer TOKEN."
    return _problem(problems.UNAUTHORIZED, detail, right)


def _problem(kind: Kind, detail: str, right: Right) -> ProblemError:
    error = (
        "" if kind is problems.UNAUTHORIZED else f', error="insufficient_scope", scope="{right}"'
    )
    return ProblemError(kind, detail, {"WWW-Authenticate": f'Bearer realm="vexstream"{error}'})
