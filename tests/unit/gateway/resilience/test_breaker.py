from __future__ import annotations

from gateway.resilience.breaker import Breaker
from serving.contracts.resilience import Breaker as BreakerPolicy

POLICY = BreakerPolicy(
    window_seconds=10, min_requests=10, failure_fraction=0.5, open_seconds=5, max_open_seconds=30, probes=2
)


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(10):
        breaker.record(True, at, at)
    assert not breaker.closed
    return breaker


def probe(breaker: Breaker, at: float, failed: bool | None) -> None:
    assert breaker.allows(at)
    breaker.entered(at)
    breaker.record(failed, at, at)


def test_it_opens_at_the_share_of_failures_and_not_below() -> None:
    """With 10 of 21 requests failed it stays closed, and with 11 of 22 it opens."""
    breaker = Breaker(POLICY)
    for _ in range(11):
        breaker.record(False, 100.0, 100.0)
    for _ in range(10):
        breaker.record(True, 100.0, 100.0)
    assert breaker.closed
    breaker.record(True, 100.0, 100.0)
    assert not breaker.closed


def test_a_few_failures_do_not_open_it() -> None:
    """Nine failures in a row, below min_requests, leave it closed; so do ten of which some are too old."""
    breaker = Breaker(POLICY)
    for second in range(30):
        breaker.record(True, 100.0 + 2 * second, 100.0 + 2 * second)  # five in any ten seconds
    assert breaker.closed


def test_probes_in_a_row_close_it() -> None:
    """Nothing passes for open_seconds, then as many probes as the policy says, and when all are answered it closes."""
    breaker = opened()
    assert not breaker.allows(104.9)
    assert breaker.allows(105.0)
    breaker.entered(105.0)
    breaker.entered(105.0)
    assert not breaker.allows(105.1)
    breaker.record(False, 105.0, 106.0)
    assert not breaker.closed
    breaker.record(False, 105.0, 106.0)
    assert breaker.closed
    assert breaker.allows(106.0)


def test_a_failed_probe_doubles_the_open_time_up_to_its_bound() -> None:
    """Open for 5, 10, 20 and then 30 s, each time after a probe that failed."""
    breaker, now = opened(), 100.0
    for seconds in (5.0, 10.0, 20.0, 30.0, 30.0):
        assert not breaker.allows(now + seconds - 0.1)
        now += seconds
        probe(breaker, now, failed=True)


def test_an_endpoint_that_fails_again_soon_after_it_closed_stays_open_for_longer() -> None:
    """Failing again within max_open_seconds of closing doubles the time; failing much later does not."""
    for pause, seconds in ((1.0, 10.0), (1000.0, 5.0)):
        breaker = opened()
        probe(breaker, 105.0, failed=False)
        probe(breaker, 105.0, failed=False)
        again = 105.0 + pause
        for _ in range(10):
            breaker.record(True, again, again)
        assert not breaker.allows(again + seconds - 0.1)
        assert breaker.allows(again + seconds)


def test_requests_from_before_it_opened_say_nothing() -> None:
    """Answers and failures of requests that entered before neither close it, nor open it for longer, nor use probes."""
    breaker = opened()
    for failed in (False, False, False, True, None):
        breaker.record(failed, 99.0, 106.0)
    assert not breaker.closed
    assert breaker.allows(106.0)
    assert breaker.open_until == 105.0


def test_a_probe_whose_client_left_is_given_back() -> None:
    """A probe of which nothing was learned makes room for another at once."""
    breaker = opened()
    breaker.entered(105.0)
    breaker.entered(105.0)
    assert not breaker.allows(105.5)
    breaker.record(None, 105.0, 105.5)
    assert breaker.allows(105.5)


def test_probes_that_are_never_heard_of_again_do_not_keep_it_open() -> None:
    """When probes hang, others may pass after another open time."""
    breaker = opened()
    breaker.entered(105.0)
    breaker.entered(105.0)
    assert not breaker.allows(109.9)
    assert breaker.allows(110.0)


def test_another_window_holds_from_the_next_failure() -> None:
    """A policy with a shorter window takes effect without a restart."""
    breaker = Breaker(POLICY)
    for _ in range(9):
        breaker.record(True, 100.0, 100.0)
    breaker.policy = POLICY.model_copy(update={"window_seconds": 1.0})
    breaker.record(True, 101.5, 101.5)
    assert breaker.closed
