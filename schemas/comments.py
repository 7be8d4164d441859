"""Comments to and from the bytes on the topic statement-comment."""

from dataclasses import asdict

from schemas.codec import BadRecordError, Kind, decode, encode
from schemas.values import MAX_TIME_US
from vexstream.comments import Comment, problem
from vexstream.identity import BadDigestError, parse_digest


def encode_comment(comment: Comment) -> bytes:
    """A comment as a message of the topic statement-comment.

    Raises:
        BadRecordError: no reader would accept it; the text says why.
    """
    _check(comment)
    return encode(Kind.STATEMENT_COMMENT, asdict(comment))


def decode_comment(message: bytes) -> Comment:
    """The inverse of ``encode_comment``; raises CodecError."""
    wire = decode(Kind.STATEMENT_COMMENT, message)
    try:
        digest = parse_digest(wire["config_digest"])
    except BadDigestError as error:
        raise BadRecordError(f"comment: {error}") from error
    comment = Comment(**{**wire, "config_digest": digest})
    _check(comment)
    return comment


def _check(comment: Comment) -> None:
    why = problem(comment)
    if why is None and not 0 <= comment.written_at_us <= MAX_TIME_US:
        why = f"{comment.written_at_us} is no time between 1970 and 9999"
    if why is not None:
        raise BadRecordError(f"comment on {comment.vulnerability[:80]!r}: {why}")
