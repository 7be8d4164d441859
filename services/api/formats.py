"""The formats in which a document is offered, and which of them a request asks for. Pure.

The document on the topic is OpenVEX; every other format is rendered from its bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from vexstream import csaf, cyclonedx
from vexstream.identity import Image


class Format(StrEnum):
    """The values of ``?format=``."""

    OPENVEX = "openvex"
    CSAF = "csaf"
    CYCLONEDX = "cyclonedx"
    CYCLONEDX_DT = "cyclonedx-dt"


@dataclass(frozen=True, slots=True)
class Renderer:
    """How a format is made out of an OpenVEX document."""

    media_type: str
    render: Callable[[bytes, Image], bytes]


RENDERERS: dict[Format, Renderer] = {
    Format.CSAF: Renderer(csaf.MEDIA_TYPE, csaf.render),
    Format.CYCLONEDX: Renderer(cyclonedx.MEDIA_TYPE, cyclonedx.render_linked),
    Format.CYCLONEDX_DT: Renderer(cyclonedx.MEDIA_TYPE, cyclonedx.render),
}
"""The formats other than OpenVEX."""

_BY_MEDIA_TYPE = {
    "application/json": Format.OPENVEX,
    "application/vnd.openvex+json": Format.OPENVEX,
    "application/openvex+json": Format.OPENVEX,
    "application/csaf+json": Format.CSAF,
    "application/vnd.csaf+json": Format.CSAF,
    "application/vnd.cyclonedx+json": Format.CYCLONEDX,
}
"""In the order in which ranges such as ``application/*`` are met."""


class NotOfferedError(ValueError):
    """The request takes no format that is offered; the text lists those that are."""


def offered() -> list[Format]:
    """The formats a request can get."""
    return [name for name in Format if name is Format.OPENVEX or name in RENDERERS]


def choose(parameter: str | None, accept: str) -> Format:
    """The format for a request; ``?format=`` goes before Accept, and OpenVEX before the others.

    Raises:
        NotOfferedError: there is none.
    """
    if parameter is not None:
        if parameter not in offered():
            raise NotOfferedError(_complaint(f"The format {parameter[:80]!r} is not offered"))
        return Format(parameter)
    if not accept.strip():
        return Format.OPENVEX
    ranges = sorted(_ranges(accept), key=lambda found: -found[1])
    for media_range, weight in ranges:
        chosen = _first_in(media_range) if weight > 0 else None
        if chosen is not None:
            return chosen
    raise NotOfferedError(_complaint(f"Nothing that Accept takes ({accept[:200]!r}) is offered"))


def _complaint(what: str) -> str:
    return f"{what}: ask with ?format= for one of {', '.join(offered())}."


def _first_in(media_range: str) -> Format | None:
    kind, _, subtype = media_range.partition("/")
    for media_type, name in _BY_MEDIA_TYPE.items():
        whole = media_range in ("*/*", media_type)
        if (whole or (subtype == "*" and media_type.startswith(f"{kind}/"))) and name in offered():
            return name
    return None


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        if media_range:
            yield media_range, _weight(parameters)


def _weight(parameters: list[str]) -> float:
    """The ``q`` of a range; one that cannot be read counts as a refusal."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
