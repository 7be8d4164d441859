"""What the messages of several topics have in common: images, times, compressed bodies."""

from collections.abc import Callable
from typing import TypeVar

import zstandard

from schemas.codec import BadRecordError, Record
from vexstream.identity import MAX_ALIAS, Image, first_aliases, parse_digest

MAX_TIME_US = 253_402_300_799_999_999
"""The last microsecond of the year 9999: there are no later times for those who show them."""

_READ_BYTES = 1024 * 1024

T = TypeVar("T")


def image_record(image: Image) -> Record:
    """An image as the nested record that several schemas share."""
    return {
        "config_digest": image.config_digest,
        "manifest_digests": list(image.manifest_digests),
        "names": list(image.names),
    }


def image_of(record: Record) -> Image:
    """The inverse of ``image_record``; raises BadDigestError."""
    if any(len(name) > MAX_ALIAS for name in record["names"]):
        raise ValueError(f"a name of the image is longer than {MAX_ALIAS} characters")
    return Image(
        parse_digest(record["config_digest"]),
        first_aliases(map(parse_digest, record["manifest_digests"])),
        first_aliases(record["names"]),
    )


def checked(build: Callable[[Record], T], record: Record) -> T:
    """What a record is built into.

    Raises:
        BadRecordError: it cannot be.
    """
    try:
        return build(record)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError(str(error)) from error


def time_us_of(time_us: int) -> int:
    """Checks a time; raises ValueError."""
    if not 0 <= time_us <= MAX_TIME_US:
        raise ValueError(f"{time_us} is no time between 1970 and 9999")
    return time_us


def decompress(body: bytes, limit_bytes: int) -> bytes:
    """Unpacks zstd without ever growing past the limit.

    Raises:
        BadRecordError: no zstd frame, or larger than the limit.
    """
    plain = bytearray()
    try:
        # In pieces: the reader allocates at once as much as it is asked for.
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            while piece := reader.read(_READ_BYTES):
                plain += piece
                if len(plain) > limit_bytes:
                    raise BadRecordError(f"the body unpacks to more than {limit_bytes} bytes")
    except zstandard.ZstdError as error:
        raise BadRecordError(f"corrupt zstd frame: {error}") from error
    return bytes(plain)
