from __future__ import annotations

from gateway.resilience.window import RollingWindow


def counts(window: RollingWindow, now: float) -> tuple[int, int]:
    window.move(now)
    return window.first, window.second


def test_events_are_forgotten_after_the_window_and_not_before() -> None:
    """In a window of 10 s, what came at 0 s counts until 9 s and is gone by 10 s, kind by kind."""
    window = RollingWindow(10.0)
    window.add_first(0.0)
    window.add_first(5.5)
    window.add_second(5.6)
    assert counts(window, 9.5) == (2, 1)
    assert counts(window, 10.0) == (1, 1)
    assert counts(window, 15.0) == (0, 0)


def test_a_long_silence_forgets_everything() -> None:
    """After more than a whole window without events, only the new event counts."""
    window = RollingWindow(1.0)
    for _ in range(5):
        window.add_second(3.0)
    window.add_first(400.0)
    assert counts(window, 400.0) == (1, 0)
