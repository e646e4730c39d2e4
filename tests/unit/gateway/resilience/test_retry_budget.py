from __future__ import annotations

import random

from gateway.resilience.retry import RetryBudget, backoff_seconds
from serving.contracts.resilience import Retry

POLICY = Retry(budget_fraction=0.2, min_retries_per_second=1, backoff_ms=100, max_backoff_ms=400)


def test_retries_are_a_share_of_first_tries() -> None:
    """With 100 first tries, exactly 20 retries pass, and 10 more for the minimum of one a second."""
    budget = RetryBudget()
    for _ in range(100):
        budget.first_try(50.0)
    assert sum(budget.take(POLICY, 50.0) for _ in range(200)) == 30


def test_an_outage_adds_no_more_than_the_share() -> None:
    """At 50 requests a second that all fail, a minute has at most its 20 % of retries, besides one a second."""
    budget, retries, tries = RetryBudget(), 0, 0
    for tick in range(60 * 50):
        now = tick / 50
        budget.first_try(now)
        tries += 1
        retries += budget.take(POLICY, now) + budget.take(POLICY, now)
    assert 0.2 * tries <= retries <= 0.2 * tries + 70


def test_the_budget_comes_back() -> None:
    """Ten seconds after it was used up there is the minimum again."""
    budget = RetryBudget()
    while budget.take(POLICY, 50.0):
        pass
    assert not budget.take(POLICY, 55.0)
    assert budget.take(POLICY, 60.0)


def waits(tries: int, **more: float) -> list[float | None]:
    rng = random.Random(1)
    return [backoff_seconds(POLICY, tries, remaining_seconds=more.get("left", 60), rng=rng) for _ in range(300)]


def test_backoff_doubles_with_full_jitter_up_to_its_bound() -> None:
    """Waits fill the range from 0 to 0.1, 0.2, 0.4 and 0.4 s."""
    for tries, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.4)):
        drawn = [wait for wait in waits(tries) if wait is not None]
        assert len(drawn) == 300
        assert 0 <= min(drawn) < 0.05 * bound
        assert 0.95 * bound < max(drawn) <= bound


def test_retry_after_is_kept_within_the_deadline() -> None:
    """Never earlier than the endpoint asked for, and not at all when the deadline comes first."""
    wait = backoff_seconds(POLICY, 1, remaining_seconds=10, retry_after_seconds=3, rng=random.Random(1))
    assert wait is not None
    assert 3 <= wait <= 3.1
    assert backoff_seconds(POLICY, 1, remaining_seconds=2.9, retry_after_seconds=3) is None
    assert None in waits(3, left=0.2)
