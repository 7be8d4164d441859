"""A worker that stood still for longer than its group waits is not the one it was."""

from services.correlator.standstill import Standstill


def test_a_pause_longer_than_the_limit_is_seen_by_whoever_looks_first_and_never_forgotten() -> None:
    now = [0.0]
    watch = Standstill(8.0, lambda: now[0])
    for second in range(1, 20):
        now[0] = float(second)
        watch.beat()
        assert not watch.happened()
    now[0] += 8.5
    assert watch.happened()
    watch.beat()
    assert watch.happened()


def test_the_beat_itself_sees_the_pause() -> None:
    now = [0.0]
    watch = Standstill(8.0, lambda: now[0])
    now[0] = 9.0
    watch.beat()
    now[0] = 9.1
    assert watch.happened()
