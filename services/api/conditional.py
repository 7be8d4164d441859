"""Conditional requests and content coding: what a client has, and what it takes (RFC 9110).

The plain and the gzip form of a document are two representations and have two strong tags:
``"<sha256>"`` and ``"<sha256>-gzip"``. Last-Modified is only told, never compared: a document can
change twice within the one second it resolves.
"""

import re
from collections.abc import Iterator

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_GZIP_SUFFIX = "-gzip"


def etag(sha256: str, *, gzipped: bool) -> str:
    """The strong tag of one form of a document."""
    return f'"{sha256}{_GZIP_SUFFIX if gzipped else ""}"'


def matching_tag(if_none_match: str, sha256: str, *, gzipped: bool) -> str | None:
    """The tag by which the client has the document already, None when it has not.

    The comparison is weak, as If-None-Match wants it, and either form will do: both hold the same
    document. ``*`` matches whatever there is; ``gzipped`` is the form that would be sent now.
    """
    if if_none_match.strip() == "*":
        return etag(sha256, gzipped=gzipped)
    theirs = set(_TAG.findall(if_none_match))
    for form in (gzipped, not gzipped):
        if etag(sha256, gzipped=form) in theirs:
            return etag(sha256, gzipped=form)
    return None


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the client takes gzip and does not like the plain form better."""
    weights = dict(_weights(accept_encoding))
    anything = weights.get("*", 0.0)
    gzip = max(weights.get("gzip", anything), weights.get("x-gzip", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


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
