"""The learning period that a pod asks for: what is clear is taken, what is not is said."""

import pytest
from structlog.testing import capture_logs

from services.collector.annotations import LEARNING_PERIOD, learning_period_us
from services.common.metrics import REFUSED_ANNOTATIONS

MINUTE = 60_000_000


def _refused() -> float:
    value: float = REFUSED_ANNOTATIONS.labels(LEARNING_PERIOD)._value.get()
    return value


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("30m", 30 * MINUTE),
        ("24h", 24 * 60 * MINUTE),
        ("7d", 7 * 24 * 60 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1m30s", 3 * MINUTE // 2),
        ("120", 2 * MINUTE),
    ],
)
def test_a_duration_is_taken(written: str, wanted: int) -> None:
    before = _refused()
    assert learning_period_us(written, "c") == wanted
    assert _refused() == before


@pytest.mark.parametrize(
    "written",
    ["0", "0h", "-5m", "soon", "1.5h", "30 m", "30m ", "m", "1h30", "30m1h", "367d", "\u0663m",
     "9" * 5000, "1h\n"],
)  # fmt: skip
def test_anything_else_is_ignored_said_and_counted(written: str) -> None:
    before = _refused()
    with capture_logs() as logs:
        assert learning_period_us(written, "c") is None
    assert _refused() == before + 1
    assert [line["annotation"] for line in logs] == [LEARNING_PERIOD]


def test_no_annotation_is_no_fault() -> None:
    before = _refused()
    assert learning_period_us("", "c") is None
    assert _refused() == before
