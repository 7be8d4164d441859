"""How long the collector has to rest so that it stays within its share of the processor."""

_MAX_REST_SECONDS = 5.0


class Backoff:
    """No clock: times of the process are given."""

    def __init__(self, max_cores: float) -> None:
        self._max_cores = max_cores
        self._cpu_seconds: float | None = None
        self._wall_seconds = 0.0

    def rest(self, cpu_seconds: float, wall_seconds: float) -> float:
        """Seconds to rest beyond the usual, given the processor and wall time spent until now."""
        before, since = self._cpu_seconds, self._wall_seconds
        self._cpu_seconds, self._wall_seconds = cpu_seconds, wall_seconds
        if before is None:
            return 0.0
        wanted = (cpu_seconds - before) / self._max_cores
        return min(max(0.0, wanted - (wall_seconds - since)), _MAX_REST_SECONDS)
