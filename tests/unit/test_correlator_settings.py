"""What the operator's settings come to."""

import pytest

from services.correlator.settings import CorrelatorSettings

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        (CorrelatorSettings(), 3600),
        (CorrelatorSettings(learning_period_seconds=8), 8),
        (CorrelatorSettings(minimum_learning_period_seconds=60), 60),
        (CorrelatorSettings(learning_period_seconds=8, minimum_learning_period_seconds=9), 9),
    ],
)
def test_nobody_may_ask_for_less_than_an_hour_unless_the_operator_says_so(
    settings: CorrelatorSettings, least: int
) -> None:
    assert settings.policy().rules.minimum_period_us == least * SECOND
