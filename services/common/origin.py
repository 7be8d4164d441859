"""Headers by which a record on file-access says something of a record before it.

``vexstream-origin`` is the place of a record that could not be used, ``topic[partition]@offset``.
With a value, the record is the same one, sent again. Without a value, it says that the one before
need not be read: by whom (``vexstream-dismissed-by``) and why (``vexstream-dismissed-because``);
``vexstream-dismissed-older`` takes those before it on its partition with it.

``vexstream-topic`` is Kafka's id of the topic in which a place is meant: a mirror of it, or a topic
that was made anew, has another record at that offset.

``vexstream-too-large`` is the place of a record on another partition than its image's that the
broker does not take a second time: this one is on the right partition in its stead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vexstream.unreadable import Dismissal, RecordPlace, parse_place

Headers = list[tuple[str, bytes]]

_ORIGIN = "vexstream-origin"
_BY = "vexstream-dismissed-by"
_BECAUSE = "vexstream-dismissed-because"
_OLDER = "vexstream-dismissed-older"
_TOPIC = "vexstream-topic"
_TOO_LARGE = "vexstream-too-large"
MAX_TEXT = 200
"""Characters of an author's name or a reason: they stand in every statement of the image."""


@dataclass(frozen=True, slots=True)
class Dismissed:
    """A person's word that a record, or all up to it, need not be read."""

    place: RecordPlace
    dismissal: Dismissal
    older: bool


def topic_headers(topic_id: str) -> Headers:
    """Of which topic a place in other headers is; nothing where the broker tells no ids."""
    return [(_TOPIC, topic_id.encode())] if topic_id else []


def topic_of(headers: object) -> str:
    """The id of that topic; empty when the headers do not say."""
    return _text(headers, _TOPIC)


def origin_headers(place: RecordPlace, topic_id: str) -> Headers:
    """The headers of a record that is sent again."""
    return [(_ORIGIN, str(place).encode()), *topic_headers(topic_id)]


def dismissal_headers(said: Dismissed, topic_id: str) -> Headers:
    """The headers of a record without a value that takes a mark back."""
    headers = [
        *origin_headers(said.place, topic_id),
        (_BY, said.dismissal.author.encode()),
        (_BECAUSE, said.dismissal.reason.encode()),
    ]
    return [*headers, (_OLDER, b"1")] if said.older else headers


def stand_in_headers(place: RecordPlace) -> Headers:
    """The headers of a record in the stead of one that is too large."""
    return [(_TOO_LARGE, str(place).encode())]


def stands_in_for(headers: object) -> RecordPlace | None:
    """In which record's stead this one is; None when it is in none's."""
    return _place(headers, _TOO_LARGE)


def origin_of(headers: object) -> RecordPlace | None:
    """Which record was sent again; None when the headers do not say."""
    return _place(headers, _ORIGIN)


def dismissed_by(headers: object) -> Dismissed | None:
    """What a person says in these headers; None when they say nothing, or not who and why."""
    place, author, reason = origin_of(headers), _text(headers, _BY), _text(headers, _BECAUSE)
    if place is None or not author or not reason:
        return None
    dismissal = Dismissal(author[:MAX_TEXT], reason[:MAX_TEXT])
    return Dismissed(place, dismissal, bool(_text(headers, _OLDER)))


def _place(headers: object, name: str) -> RecordPlace | None:
    try:
        return parse_place(_text(headers, name))
    except ValueError:
        return None


def _text(headers: object, name: str) -> str:
    # Clients hand headers over as a mapping, as pairs or not at all.
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if not isinstance(pairs, Iterable):
        return ""
    return next((value.decode("utf-8", "replace") for key, value in pairs if key == name), "")
