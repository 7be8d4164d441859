"""Documents in memory: bounded, and the one asked for longest ago goes first."""

from services.api.bodies import Bodies
from services.api.image_reads import Body


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    held = Bodies(10)
    held.put(("a", Body.PLAIN), b"1234")
    held.put(("b", Body.PLAIN), b"1234")
    assert held.get(("a", Body.PLAIN)) == b"1234"
    held.put(("c", Body.PLAIN), b"1234")
    assert held.get(("b", Body.PLAIN)) is None
    assert held.get(("a", Body.PLAIN)) == held.get(("c", Body.PLAIN)) == b"1234"
    assert held.get(("a", Body.GZIP)) is None


def test_one_that_is_too_large_puts_out_no_other() -> None:
    held = Bodies(10)
    held.put(("a", Body.PLAIN), b"1234")
    held.put(("a", Body.PLAIN), b"1234")
    held.put(("b", Body.PLAIN), b"12345678901")
    assert (held.get(("a", Body.PLAIN)), held.get(("b", Body.PLAIN))) == (b"1234", None)
