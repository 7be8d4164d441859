"""Sightings of images and dead letters to and from the bytes on the wire.

Everything that arrives is checked here, once. Every ``decode_*`` raises
``schemas.codec.CodecError`` and nothing else.
"""

from dataclasses import dataclass

from schemas.codec import Kind, decode, encode
from schemas.values import checked, image_of, image_record, time_us_of
from vexstream.identity import Image

RESCAN = "rescan"
"""In place of the runtime in a sighting that nobody made: scan, although there may be a scan."""


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """A collector saw a container of this image (schemas/image-seen.avsc)."""

    image: Image
    node: str
    runtime: str
    seen_at_us: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used (schemas/dead-letter.avsc)."""

    service: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    detail: str
    failed_at_us: int
    topic_id: str = ""
    """Kafka's id of the topic; empty where it is not known."""
    cut: bool = False
    """Not all of the key and value is here."""


def encode_image_seen(seen: ImageSeen) -> bytes:
    """A sighting as a message of the topic image-seen."""
    return encode(
        Kind.IMAGE_SEEN,
        {
            "image": image_record(seen.image),
            "node": seen.node,
            "runtime": seen.runtime,
            "seen_at_us": seen.seen_at_us,
        },
    )


def decode_image_seen(message: bytes) -> ImageSeen:
    """The inverse of ``encode_image_seen``."""
    return checked(
        lambda r: ImageSeen(
            image_of(r["image"]), r["node"], r["runtime"], time_us_of(r["seen_at_us"])
        ),
        decode(Kind.IMAGE_SEEN, message),
    )


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """A dead letter as a message of the topic dead-letter."""
    return encode(Kind.DEAD_LETTER, {name: getattr(letter, name) for name in DeadLetter.__slots__})


def decode_dead_letter(message: bytes) -> DeadLetter:
    """The inverse of ``encode_dead_letter``."""
    return checked(lambda r: DeadLetter(**r), decode(Kind.DEAD_LETTER, message))
