"""Conditional requests and content coding: what a client has, and what it takes (RFC 9110).

The plain, the gzip and the zstd form of a document are representations and have a strong tag each:
``"<sha256>"``, ``"<sha256>-gzip"`` and ``"<sha256>-zstd"``. Last-Modified is only told, never
compared: a document can change twice within the one second it resolves.
"""

import re
from collections.abc import Iterator

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_GZIP_SUFFIX = "-gzip"


def etag(sha256: str, *, gzipped: bool) -> str:
    """The strong tag of the plain or the gzip form of a document."""
    return f'"{sha256}{_GZIP_SUFFIX if gzipped else ""}"'


def zstd_tag(sha256: str) -> str:
    """The strong tag of the zstd form of a document."""
    return f'"{sha256}-zstd"'


def matching_tag(if_none_match: str, sha256: str, *, gzipped: bool) -> str | None:
    """The tag by which the client has the document already, None when it has not.

    The comparison is weak, as If-None-Match wants it, and every form will do: all hold the same
    document. ``*`` matches whatever there is; ``gzipped`` is the form that would be sent now.
    """
    if if_none_match.strip() == "*":
        return etag(sha256, gzipped=gzipped)
    theirs = set(_TAG.findall(if_none_match))
    forms = (etag(sha256, gzipped=gzipped), etag(sha256, gzipped=not gzipped), zstd_tag(sha256))
    return next((tag for tag in forms if tag in theirs), None)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip and does not like the plain form better."""
    weights = dict(_weights(accept_encoding))
    anything = weights.get("*", 0.0)
    gzip = max(weights.get("gzip", anything), weights.get("x-gzip", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def prefers_zstd(accept_encoding: str) -> bool:
    """Whether the client names zstd and likes neither gzip nor the plain form as much."""
    weights = dict(_weights(accept_encoding))
    others = (weights.get(name, 0.0) for name in ("gzip", "x-gzip", "*", "identity"))
    return weights.get("zstd", 0.0) > max(others)


def _weights(header: str) -> Iterator[tuple[str, float]]:
    for part in header.split(","):
        coding, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if coding:
            yield coding, _weight(parameters)


def _weight(parameters: list[str]) -> float:
    """The ``q`` of a coding; one that cannot be read counts as a refusal."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if re.fullmatch(r"\s*[01](\.\d{0,3})?\s*", value) else 0.0
    return 1.0
