"""Tests that take long, and of which a quicker one beside them shows the most."""

import os

import pytest

slow = pytest.mark.skipif(
    not os.environ.get("VEXSTREAM_TEST_SLOW"),
    reason="half a minute and more: set VEXSTREAM_TEST_SLOW=1",
)
