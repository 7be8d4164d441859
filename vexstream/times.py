"""Microseconds since the Unix epoch as text."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)  # the statements of a document share few
def instant(microseconds: int) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{microseconds} us after 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(microseconds: int) -> str:
    """For a person: ``24 h``, ``90 s``, ``1 h 30 min``."""
    seconds, rest = divmod(microseconds, 1_000_000)
    if seconds == 0:
        return f"{rest / 1000:g} ms"
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    parts = [f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if n]
    return " ".join(parts)
