"""What is known roughly: nothing that was added is ever missed."""

import pytest

from vexstream.sieve import BITS, Sieve


def test_what_was_added_is_in_it_and_little_else() -> None:
    known = Sieve()
    known.add(range(0, 700_000, 7))
    assert all(number in known for number in range(0, 700_000, 7))
    assert not any(number in known for number in range(1, 700_000, 7))


@pytest.mark.parametrize("number", [0, 1, -1, 7, BITS - 1, 2**63 - 1, -(2**63)])
def test_numbers_of_any_size(number: int) -> None:
    known = Sieve()
    assert number not in known
    known.add([number])
    assert number in known
    assert number + BITS in known
    assert number + 1 not in known
