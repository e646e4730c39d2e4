"""Offline gates: pure functions from a candidate's figures and the stable model's to a result with a readable reason.

A gate gives None where it does not apply: its limit is not set, or it compares with a stable model and there is none
(a first release, judged by its absolute gates). Where it applies, a missing figure never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from serving.contracts.benchmark_report import GateResult, Quality, SpeedLevel
from serving.contracts.release_spec import Gates
from serving.wording import number


@dataclass(frozen=True)
class Figures:
    """What the gates look at of one model."""

    quality: Quality | None
    speed: tuple[SpeedLevel, ...]

    @property
    def top_level(self) -> SpeedLevel | None:
        """The level with the most concurrent requests."""
        return max(self.speed, key=lambda level: level.concurrency, default=None)

    @property
    def best_tokens_per_second(self) -> float:
        """Output tokens/s of the best round at the highest concurrency; 0 when there is none."""
        level = self.top_level
        return level.best_tokens_per_second if level is not None else 0.0


Gate = Callable[[Gates, Figures, Figures | None], GateResult | None]
"""Takes limits, the candidate's figures and the stable model's (None on a first release), in this order."""


def judge_figures(gates: Gates, candidate: Figures, stable: Figures | None) -> tuple[GateResult, ...]:
    """Apply every gate that applies, in the table's order."""
    results = (gate(gates, candidate, stable) for gate in GATES.values())
    return tuple(result for result in results if result is not None)


def min_exact_match(gates: Gates, candidate: Figures, _: Figures | None) -> GateResult:
    """Pass when the share of right answers is at least the limit; the estimate counts, not its interval."""
    limit = gates.quality.min_exact_match
    if candidate.quality is None:
        return _missing("min_exact_match", limit, "the candidate's exact match")
    share = candidate.quality.exact_match
    text = f"answers {share.value:.1%} of {share.n} rows exactly ({share.low:.1%} to {share.high:.1%})"
    return _at_least("min_exact_match", share.value, limit, f"{text}, {{}} the {limit:.1%} asked for")


def max_exact_match_loss(gates: Gates, candidate: Figures, stable: Figures | None) -> GateResult | None:
    """Pass when a loss beyond the margin is ruled out: the upper bound of stable minus candidate is within it."""
    limit = gates.quality.max_exact_match_loss
    if stable is None:
        return None
    loss = candidate.quality.exact_match_loss if candidate.quality else None
    if loss is None:
        return _missing("max_exact_match_loss", limit, "the difference to the stable model on the same rows")
    text = f"{-loss.value * 100:+.1f} points against stable on the same {loss.n} rows; a loss of {loss.high * 100:.1f}"
    sure = f"at {gates.quality.confidence:.0%} confidence is {{}} the margin {limit * 100:.1f}"
    return _at_most("max_exact_match_loss", loss.high, limit, f"{text} points {sure}")


def max_perplexity_ratio(gates: Gates, candidate: Figures, stable: Figures | None) -> GateResult | None:
    """Pass when the upper bound of candidate over reference perplexity is at most the limit.

    The reference is the stable model, on a first release the unquantized candidate where there is one.
    """
    limit = gates.quality.max_perplexity_ratio
    ratio = candidate.quality.perplexity_ratio if candidate.quality else None
    if ratio is None:
        missing = _missing("max_perplexity_ratio", limit, "the perplexity on the stable model's rows")
        return None if stable is None else missing
    text = f"perplexity of the right answers is {ratio.value:.3f} times the reference's, {ratio.high:.3f} at most"
    sure = f"at {gates.quality.confidence:.0%} confidence, {{}} {limit:g}"
    return _at_most("max_perplexity_ratio", ratio.high, limit, f"{text} {sure}")


def max_request_errors(_: Gates, candidate: Figures, __: Figures | None) -> GateResult:
    """Pass when no request of the speed run failed: on one machine, none has a reason to."""
    errors, requests = sum(level.errors for level in candidate.speed), sum(level.requests for level in candidate.speed)
    if not requests:
        return _missing("max_request_errors", 0, "requests of a speed run")
    return _at_most("max_request_errors", errors, 0, f"{errors} of {requests} requests of the speed run failed")


def max_ttft_p90_ms(gates: Gates, candidate: Figures, _: Figures | None) -> GateResult | None:
    """Pass when the 90th percentile of the time to first token is at most the limit at every level."""
    return _worst_level("max_ttft_p90_ms", gates.speed.max_ttft_p90_ms, candidate, "first token", "ttft_p90_ms")


def max_itl_p90_ms(gates: Gates, candidate: Figures, _: Figures | None) -> GateResult | None:
    """Pass when the 90th percentile of the gap between tokens is at most the limit at every level."""
    return _worst_level("max_itl_p90_ms", gates.speed.max_itl_p90_ms, candidate, "gap between tokens", "itl_p90_ms")


def min_throughput_ratio(gates: Gates, candidate: Figures, stable: Figures | None) -> GateResult | None:
    """Pass when tokens/s at the highest concurrency are at least this many times stable's, best round to best round."""
    limit = gates.speed.min_throughput_ratio
    if limit is None or stable is None:
        return None
    own, other = candidate.top_level, stable.top_level
    if own is None or other is None or own.concurrency != other.concurrency or stable.best_tokens_per_second <= 0:
        what = "tokens/s of candidate and stable at the same highest concurrency"
        return _missing("min_throughput_ratio", limit, what)
    ratio = candidate.best_tokens_per_second / stable.best_tokens_per_second
    speed, stable_speed = number(candidate.best_tokens_per_second), number(stable.best_tokens_per_second)
    text = f"{speed} tokens/s at {own.concurrency} concurrent requests are {ratio:.2f}"
    against = f"times stable's {stable_speed} (best rounds), {{}} {limit:g}"
    return _at_least("min_throughput_ratio", ratio, limit, f"{text} {against}")


GATES: Final[Mapping[str, Gate]] = {
    "min_exact_match": min_exact_match,
    "max_exact_match_loss": max_exact_match_loss,
    "max_perplexity_ratio": max_perplexity_ratio,
    "max_request_errors": max_request_errors,
    "max_ttft_p90_ms": max_ttft_p90_ms,
    "max_itl_p90_ms": max_itl_p90_ms,
    "min_throughput_ratio": min_throughput_ratio,
}


def _worst_level(name: str, limit: float | None, candidate: Figures, what: str, field: str) -> GateResult | None:
    if limit is None:
        return None
    if not candidate.speed:
        return _missing(name, limit, f"the {what}")
    worst = max(candidate.speed, key=lambda level: float(getattr(level, field)))
    measured = float(getattr(worst, field))
    text = f"{what}: 90 % within {measured:.1f} ms at {worst.concurrency} concurrent requests, its worst level"
    return _at_most(name, measured, limit, f"{text}; {{}} {limit:g} ms")


def _at_most(name: str, measured: float, limit: float, reason: str) -> GateResult:
    """Hold a figure to an upper limit; `{}` in the reason becomes `within` or `beyond`."""
    passed = measured <= limit
    text = reason.format("within" if passed else "beyond")
    return GateResult(gate=name, passed=passed, measured=measured, limit=limit, reason=text)


def _at_least(name: str, measured: float, limit: float, reason: str) -> GateResult:
    """Hold a figure to a lower limit; `{}` in the reason becomes `at least` or `less than`."""
    passed = measured >= limit
    text = reason.format("at least" if passed else "less than")
    return GateResult(gate=name, passed=passed, measured=measured, limit=limit, reason=text)


def _missing(name: str, limit: float, what: str) -> GateResult:
    return GateResult(gate=name, passed=False, measured=None, limit=limit, reason=f"expected {what}; it is missing")
