from __future__ import annotations

from gateway.resilience.trial import Trial


def test_it_climbs_while_that_pays_and_goes_back_one_step_when_it_does_not() -> None:
    """From 16 to 24 to 36 while the pace follows, back to 24 when 36 answer no more, and it rests there a minute."""
    trial = Trial()
    assert trial.next(16, 160.0, 0.0) == 24
    assert trial.next(24, 230.0, 1.0) == 36
    assert trial.next(36, 240.0, 2.0) == 24
    assert trial.next(24, 240.0, 61.0) == 24


def test_after_its_rest_it_tries_a_step_fewer() -> None:
    """When 16 do as well as 24 they are kept; when they answer less it goes up again."""
    for pace_of_fewer, expected in ((235.0, 16.0), (160.0, 36.0)):
        trial = Trial()
        trial.next(16, 160.0, 0.0)
        trial.next(24, 160.0, 1.0)
        assert trial.next(24, 240.0, 62.0) == 16
        assert trial.next(16, pace_of_fewer, 63.0) == 24
        assert trial.next(24, 240.0, 64.0) == expected
