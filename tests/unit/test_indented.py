"""The quick writer of indented JSON writes what the standard library writes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from vexstream.indented import indented

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
)


@given(_VALUES)
def test_the_bytes_are_those_of_the_standard_library(value: object) -> None:
    assert indented(value) == json.dumps(value, ensure_ascii=False, indent=1)
