"""Whether a document rules out more than another, by seals alone."""

from hypothesis import given
from hypothesis import strategies as st

from vexstream.ruled_out import MAX_SEALS, rules_out_more, sealed, to_hold

_SETS = st.sets(st.integers(0, 6).map(lambda n: (f"CVE-{n}",)))


@given(_SETS, _SETS)
def test_it_is_told_as_by_the_statements(now: set[tuple[str]], before: set[tuple[str]]) -> None:
    assert rules_out_more(sealed(now), to_hold(sealed(before))) is not (now <= before)


def test_what_is_not_held_counts_as_more() -> None:
    many = sealed((n,) for n in range(MAX_SEALS + 5))
    held = to_hold(many)
    assert len(held) < 100_000, "it fits a record"
    assert rules_out_more(many, held)
    assert not rules_out_more(to_hold(many), held)
    assert not rules_out_more(sealed([]), held)


def test_the_entry_of_an_earlier_release_holds_none() -> None:
    assert rules_out_more(sealed([("CVE-1",)]), "0123456789abcdef" * 4)
    assert not rules_out_more(sealed([]), "0123456789abcdef" * 4)
