"""Every gate, edges first: missing, equal to the limit, beyond it, not asked for, sides swapped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.benchmark_model.gates import GATES, Figures, judge_figures
from serving.contracts.benchmark_report import Estimate, GateResult, Quality, SpeedLevel
from serving.contracts.release_spec import Gates, QualityGate, SpeedGate

GATE_LIMITS = Gates(
    quality=QualityGate(min_exact_match=0.8, max_exact_match_loss=0.02, max_perplexity_ratio=1.1),
    speed=SpeedGate(max_ttft_p90_ms=100, max_itl_p90_ms=10, min_throughput_ratio=0.9),
)
NO_SPEED_LIMITS = Gates()


def estimate(value: float, high: float | None = None) -> Estimate:
    return Estimate(value=value, low=value, high=value if high is None else high, n=300)


def quality(exact: float = 0.9, loss: float | None = 0.0, ratio: float | None = 1.0) -> Quality:
    return Quality(
        exact_match=estimate(exact),
        perplexity=estimate(1.2),
        exact_match_loss=None if loss is None else estimate(0.0, high=loss),
        perplexity_ratio=None if ratio is None else estimate(1.0, high=ratio),
    )


def level(
    concurrency: int = 16,
    *,
    ttft: float = 50.0,
    itl: float = 5.0,
    rate: float = 1000.0,
    rounds: tuple[float, ...] = (),
    errors: int = 0,
) -> SpeedLevel:
    return SpeedLevel(
        concurrency=concurrency,
        requests=64,
        errors=errors,
        ttft_p50_ms=1,
        ttft_p90_ms=ttft,
        itl_p50_ms=1,
        itl_p90_ms=itl,
        e2e_p50_ms=1,
        e2e_p90_ms=1,
        output_tokens_per_second=rate,
        output_tokens_per_second_rounds=rounds,
    )


STABLE = Figures(quality(loss=None, ratio=None), (level(1, rate=100), level()))
GOOD = Figures(quality(), (level(1, rate=100), level()))


def apply(
    gate: str, candidate: Figures, stable: Figures | None = STABLE, gates: Gates = GATE_LIMITS
) -> GateResult | None:
    return GATES[gate](gates, candidate, stable)


@pytest.mark.parametrize(
    ("gate", "candidate", "passed"),
    [
        ("min_exact_match", replace(GOOD, quality=None), False),
        ("min_exact_match", replace(GOOD, quality=quality(exact=0.8)), True),
        ("min_exact_match", replace(GOOD, quality=quality(exact=0.79)), False),
        ("max_exact_match_loss", replace(GOOD, quality=None), False),
        ("max_exact_match_loss", replace(GOOD, quality=quality(loss=None)), False),
        ("max_exact_match_loss", replace(GOOD, quality=quality(loss=0.02)), True),
        ("max_exact_match_loss", replace(GOOD, quality=quality(loss=0.021)), False),
        ("max_perplexity_ratio", replace(GOOD, quality=None), False),
        ("max_perplexity_ratio", replace(GOOD, quality=quality(ratio=None)), False),
        ("max_perplexity_ratio", replace(GOOD, quality=quality(ratio=1.1)), True),
        ("max_perplexity_ratio", replace(GOOD, quality=quality(ratio=1.11)), False),
        ("max_request_errors", replace(GOOD, speed=()), False),
        ("max_request_errors", replace(GOOD, speed=(level(errors=1), level(1))), False),
        ("max_request_errors", GOOD, True),
        ("max_ttft_p90_ms", replace(GOOD, speed=()), False),
        ("max_ttft_p90_ms", replace(GOOD, speed=(level(ttft=100),)), True),
        ("max_ttft_p90_ms", replace(GOOD, speed=(level(1, ttft=101), level(ttft=5))), False),
        ("max_itl_p90_ms", replace(GOOD, speed=()), False),
        ("max_itl_p90_ms", replace(GOOD, speed=(level(itl=10),)), True),
        ("max_itl_p90_ms", replace(GOOD, speed=(level(itl=5), level(4, itl=11))), False),
        ("min_throughput_ratio", replace(GOOD, speed=()), False),
        ("min_throughput_ratio", replace(GOOD, speed=(level(rate=900),)), True),
        ("min_throughput_ratio", replace(GOOD, speed=(level(1, rate=5000), level(rate=899))), False),
        ("min_throughput_ratio", replace(GOOD, speed=(level(rate=500, rounds=(300, 950)),)), True),
        ("min_throughput_ratio", replace(GOOD, speed=(level(4),)), False),
    ],
)
def test_gate_passes_up_to_its_limit_and_never_without_its_figure(gate: str, candidate: Figures, passed: bool) -> None:
    """The limit itself passes, beyond it fails, and a missing figure fails with a reason that says so."""
    result = apply(gate, candidate)
    assert result is not None
    assert (result.gate, result.passed) == (gate, passed)
    assert result.measured is not None or "missing" in result.reason


@pytest.mark.parametrize(
    "stable",
    [replace(STABLE, speed=()), replace(STABLE, speed=(level(rate=0),)), replace(STABLE, speed=(level(4),))],
)
def test_throughput_is_not_compared_with_nothing(stable: Figures) -> None:
    """Stable figures that are missing, zero or of another level fail the gate."""
    result = apply("min_throughput_ratio", GOOD, stable)
    assert result is not None
    assert not result.passed


@pytest.mark.parametrize("gate", ["max_exact_match_loss", "max_perplexity_ratio", "min_throughput_ratio"])
def test_relative_gates_do_not_apply_to_a_first_release(gate: str) -> None:
    """Without stable model and reference there is nothing to compare with."""
    assert apply(gate, Figures(quality(loss=None, ratio=None), GOOD.speed), None) is None


def test_perplexity_is_judged_on_a_first_release_that_has_the_unquantized_weights() -> None:
    """A ratio to the unquantized candidate counts although no stable model exists."""
    result = apply("max_perplexity_ratio", replace(GOOD, quality=quality(ratio=1.5)), None)
    assert result is not None
    assert not result.passed


@pytest.mark.parametrize("gate", ["max_ttft_p90_ms", "max_itl_p90_ms", "min_throughput_ratio"])
def test_speed_gates_without_a_limit_do_not_apply(gate: str) -> None:
    """What the spec does not ask for is not judged."""
    assert apply(gate, GOOD, gates=NO_SPEED_LIMITS) is None


def test_throughput_gate_notices_swapped_sides() -> None:
    """A slow candidate fails against a fast stable model, and not the other way round."""
    slow, fast = Figures(quality(), (level(rate=500),)), Figures(quality(), (level(rate=1000),))
    forward, backward = apply("min_throughput_ratio", slow, fast), apply("min_throughput_ratio", fast, slow)
    assert forward is not None
    assert backward is not None
    assert (forward.passed, backward.passed) == (False, True)


def test_good_figures_pass_every_gate() -> None:
    """All gates apply to a release after the first one, and all pass."""
    results = judge_figures(GATE_LIMITS, GOOD, STABLE)
    assert [result.gate for result in results] == list(GATES)
    assert all(result.passed for result in results)


def test_reasons_are_sentences_with_the_figures() -> None:
    """What stands in the table names measured value and limit."""
    result = apply("max_ttft_p90_ms", replace(GOOD, speed=(level(4, ttft=250),)))
    assert result is not None
    assert result.reason == (
        "first token: 90 % within 250.0 ms at 4 concurrent requests, its worst level; beyond 100 ms"
    )
