"""Who stands first in the line for an image."""

from services.scanner.turns import Line
from vexstream.identity import Digest

ONE, OTHER = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)


def test_the_order_of_the_log_is_kept_by_renewals() -> None:
    line = Line()
    line.take(ONE, b"a", 60)
    line.take(ONE, b"b", 61)
    line.take(OTHER, b"b", 61)
    line.take(ONE, b"a", 80)
    assert (line.first(ONE, 10), line.first(OTHER, 10)) == (b"a", b"b")
    line.done(ONE, b"a")
    assert line.first(ONE, 10) == b"b"
    line.take(ONE, b"a", 90)
    assert line.first(ONE, 10) == b"b"
    line.done(ONE, b"b")
    line.done(ONE, b"never came")
    assert line.first(ONE, 10) == b"a"


def test_who_is_not_heard_of_loses_the_place() -> None:
    line = Line()
    line.take(ONE, b"a", 60)
    line.take(ONE, b"b", 90)
    assert line.first(ONE, 60) == b"b"
    line.take(ONE, b"a", 100)  # it comes back: behind the other
    assert line.first(ONE, 70) == b"b"
    assert line.first(ONE, 95) == b"a"
    assert line.first(ONE, 100) is None
    assert line.first(OTHER, 0) is None
