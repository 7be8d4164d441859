"""Class files of a few bytes, for the tests of what tools keep of them."""

import struct
from collections.abc import Sequence


def class_file(
    name: str, members: Sequence[str] = (), said: Sequence[str] = (), *, attribute: bytes = b""
) -> bytes:
    """With methods and literals; ``name`` is the whole one."""
    texts = [name, "()V", "Code", *members, *said]
    pool = b"".join(b"\1" + struct.pack(">H", len(one.encode())) + one.encode() for one in texts)
    pool += b"\7" + struct.pack(">H", 1)
    pool += b"\5" + bytes(8)  # a long, which counts as two
    first = 4 + len(members)
    pool += b"".join(b"\10" + struct.pack(">H", first + n) for n in range(len(said)))
    count = 1 + len(texts) + 1 + 2 + len(said)
    this = len(texts) + 1
    methods = b"".join(
        struct.pack(">4H", 1, 4 + n, 2, 1) + struct.pack(">HI", 3, len(attribute)) + attribute
        for n in range(len(members))
    )
    return (
        b"\xca\xfe\xba\xbe" + struct.pack(">3H", 0, 61, count) + pool
        + struct.pack(">5H", 1, this, this, 0, 0) + struct.pack(">H", len(members)) + methods
        + b"\0\0"
    )  # fmt: skip
