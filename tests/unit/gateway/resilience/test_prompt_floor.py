from __future__ import annotations

import pytest

from gateway.resilience.floor import WINDOW_SECONDS, PromptFloor


def test_delay_is_what_is_above_the_best_of_that_length() -> None:
    """Prompts of about one length are compared with the best of them."""
    floor = PromptFloor()
    assert floor.delay(1000, 0.2) == 0
    assert floor.delay(900, 0.5) == pytest.approx(0.3)
    assert floor.delay(1000, 0.1) == 0
    assert floor.delay(1000, 0.2) == pytest.approx(0.1)


def test_a_long_prompt_is_not_taken_for_a_queue() -> None:
    """A prompt eight times as long may take eight times as long without counting as delayed."""
    floor = PromptFloor()
    floor.delay(1000, 0.1)
    assert floor.delay(8000, 0.8) == 0


def test_a_length_first_seen_under_overload_is_measured_by_the_others() -> None:
    """The first long prompt that waited 5 s shows its wait: a short one's best bounds it; and the other way round."""
    floor = PromptFloor()
    floor.delay(1000, 0.1)
    assert floor.delay(4000, 5.4) == pytest.approx(5.0)
    floor = PromptFloor()
    floor.delay(8000, 0.3)
    assert floor.delay(100, 2.3) == pytest.approx(2.0)


def test_a_best_is_forgotten_after_two_windows() -> None:
    """A best counts through the next window and not the one after it."""
    floor = PromptFloor()
    assert not floor.turn(100.0)  # the first window has nothing to give up
    floor.delay(1000, 0.1)
    assert floor.turn(100.0 + WINDOW_SECONDS)
    assert floor.delay(1000, 0.4) == pytest.approx(0.3)
    assert floor.turn(100.0 + 2 * WINDOW_SECONDS)
    assert floor.delay(1000, 0.4) == 0
