"""Notices that the clock was set: intervals are then longer or shorter than what was observed."""

STEP_US = 2_000_000
"""More than this between two looks is no adjustment of its speed."""


class ClockWatch:
    """Compares the time of day with a clock that nobody sets; both in microseconds."""

    def __init__(self, now_us: int, monotonic_us: int) -> None:
        self._ahead_us = now_us - monotonic_us
        self.steps = 0
        """How often the clock was set since the beginning."""

    def look(self, now_us: int, monotonic_us: int) -> int:
        """By how much the clock was set since the last look; 0 when it was not."""
        ahead = now_us - monotonic_us
        step, self._ahead_us = ahead - self._ahead_us, ahead
        if abs(step) <= STEP_US:
            return 0
        self.steps += 1
        return step
