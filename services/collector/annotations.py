"""What a pod's annotations ask of the observation of its containers."""

import re

import structlog

from services.common import metrics

log = structlog.get_logger()

LEARNING_PERIOD = "vexstream.dev/learning-period"
"""Seconds, or a duration such as ``30m``, ``24h``, ``7d`` or ``1h30m``."""

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_SECONDS = re.compile(r"\d+", re.ASCII)
_UNIT_SECONDS = (86_400, 3_600, 60, 1)
_MAX_SECONDS = 366 * 86_400
_MAX_CHARACTERS = 32


def learning_period_us(written: str, container_id: str) -> int | None:
    """The learning period that the pod asks for; None when it asks for none, or not clearly."""
    if not written:
        return None
    seconds = _seconds(written) if len(written) <= _MAX_CHARACTERS else 0
    if 0 < seconds <= _MAX_SECONDS:
        return seconds * 1_000_000
    metrics.REFUSED_ANNOTATIONS.labels(LEARNING_PERIOD).inc()
    log.warning(
        "annotation ignored: it takes seconds or a duration such as 30m or 24h, up to 366 days",
        annotation=LEARNING_PERIOD, value=written[:_MAX_CHARACTERS], container=container_id,
    )  # fmt: skip
    return None


def _seconds(written: str) -> int:
    """0 for what is no duration."""
    if _SECONDS.fullmatch(written):
        return int(written)
    match = _DURATION.fullmatch(written)
    if match is None:
        return 0
    return sum(int(n or 0) * unit for n, unit in zip(match.groups(), _UNIT_SECONDS, strict=True))
