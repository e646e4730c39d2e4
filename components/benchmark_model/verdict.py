"""From measurements to the report: estimates, gates, the winner, and why each other candidate lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.benchmark_model import intervals
from components.benchmark_model.gates import Figures, judge_figures
from components.benchmark_model.measurements import Measurements, ModelMeasurement, RowOutcome
from serving.contracts.benchmark_report import BenchmarkReport, CandidateResult, Estimate, Quality
from serving.contracts.quantization_report import Candidate, CandidateStatus
from serving.contracts.release_spec import Gates
from serving.wording import number, size

EQUAL_SPEED_FRACTION = 0.1
"""Tokens/s closer than this are the same speed: rounds of one model on an idle machine differ by 3 to 14 %."""


@dataclass(frozen=True)
class _Judged:
    result: CandidateResult
    tokens_per_second: float
    size_bytes: int


def judge(measured: Measurements, gates: Gates, recipes: Sequence[Candidate]) -> BenchmarkReport:
    """Judge all candidates.

    The winner is the fastest candidate that passes every gate: most output tokens/s at the highest concurrency, in its
    best round; among candidates within `EQUAL_SPEED_FRACTION` of the fastest, the one with the smallest weights.

    Args:
        measured: What was measured of every built candidate and the stable model.
        gates: Limits.
        recipes: All recipes of the release, in the spec's order; those that were not built lose by it.
    """
    by_name = {model.name: model for model in measured.candidates}
    judged = [_judge_candidate(recipe, by_name.get(recipe.name), measured, gates) for recipe in recipes]
    required = {recipe.name for recipe in recipes if recipe.required}
    missing = [one.result for one in judged if one.result.name in required and not one.result.served]
    winner = None if missing else _choose(judged)
    reason = _reason(judged, winner, missing)
    return BenchmarkReport(
        passed=winner is not None,
        reason=reason,
        winner=winner.result.name if winner else None,
        stable=_stable_result(measured, gates),
        candidates=tuple(_explain(one, winner, missing) for one in judged),
        confidence=gates.quality.confidence,
        measured_at=measured.measured_at,
        machine=measured.machine,
        seconds=measured.seconds,
    )


def _judge_candidate(
    recipe: Candidate, model: ModelMeasurement | None, measured: Measurements, gates: Gates
) -> _Judged:
    if model is None:
        return _not_built(recipe)
    size_bytes = recipe.size_bytes or 0
    if model.unserved is not None:
        lost = CandidateResult(name=model.name, served=False, reason=model.unserved, passed=False)
        return _Judged(lost, 0.0, size_bytes)
    figures = Figures(_quality(model, measured, gates), model.speed)
    stable = Figures(_quality(measured.stable, measured, gates), measured.stable.speed) if measured.stable else None
    results = judge_figures(gates, figures, stable)
    result = CandidateResult(
        name=model.name,
        served=True,
        ready_seconds=model.ready_seconds,
        quality=figures.quality,
        speed=figures.speed,
        gates=results,
        passed=all(gate.passed for gate in results),
    )
    return _Judged(result, figures.best_tokens_per_second, size_bytes)


def _not_built(recipe: Candidate) -> _Judged:
    state = "was not built" if recipe.status is CandidateStatus.FAILED else "was not measured"
    reason = f"{state}: {recipe.reason or 'the quantization report gives no reason'}"
    return _Judged(CandidateResult(name=recipe.name, served=False, reason=reason, passed=False), 0.0, 0)


def _stable_result(measured: Measurements, gates: Gates) -> CandidateResult | None:
    model = measured.stable
    if model is None:
        return None
    return CandidateResult(
        name=model.name,
        served=True,
        ready_seconds=model.ready_seconds,
        quality=_quality(model, measured, gates),
        speed=model.speed,
        passed=True,
        why_not_chosen="is what the candidates are compared with",
    )


def _quality(model: ModelMeasurement, measured: Measurements, gates: Gates) -> Quality | None:
    """Estimate one model's quality; comparisons leave out the reference itself."""
    confidence = gates.quality.confidence
    scored = [row for row in model.rows if row.answer_logprob is not None]
    if not scored:
        return None
    stable = measured.stable if model is not measured.stable else None
    return Quality(
        exact_match=intervals.exact_match([row.exact for row in model.rows], confidence),
        perplexity=intervals.perplexity(*_likelihoods(scored), confidence),
        exact_match_loss=intervals.exact_match_loss(
            [row.exact for row in stable.rows], [row.exact for row in model.rows], confidence
        )
        if stable
        else None,
        perplexity_ratio=_perplexity_ratio(model, measured, confidence),
    )


def _perplexity_ratio(model: ModelMeasurement, measured: Measurements, confidence: float) -> Estimate | None:
    unquantized = next((one for one in measured.candidates if one.name == measured.unquantized), None)
    reference = measured.stable or unquantized
    if reference is None or reference is model or reference.unserved is not None:
        return None
    pairs = [
        (theirs, ours)
        for theirs, ours in zip(reference.rows, model.rows, strict=True)
        if theirs.answer_logprob is not None and ours.answer_logprob is not None
    ]
    if not pairs:
        return None
    theirs, ours = zip(*pairs, strict=True)
    return intervals.perplexity_ratio(_likelihoods(theirs), _likelihoods(ours), confidence)


def _likelihoods(rows: Sequence[RowOutcome]) -> tuple[list[float], list[int]]:
    """Return log likelihoods and token counts of rows that have them."""
    return [row.answer_logprob for row in rows if row.answer_logprob is not None], [row.answer_tokens for row in rows]


def _choose(judged: Sequence[_Judged]) -> _Judged | None:
    passing = [one for one in judged if one.result.passed]
    if not passing:
        return None
    fastest = max(one.tokens_per_second for one in passing)
    equal = [one for one in passing if one.tokens_per_second >= (1 - EQUAL_SPEED_FRACTION) * fastest]
    return min(equal, key=lambda one: (one.size_bytes, -one.tokens_per_second))


def _reason(judged: Sequence[_Judged], winner: _Judged | None, missing: Sequence[CandidateResult]) -> str:
    if missing:
        names = ", ".join(result.name for result in missing)
        return f"the spec requires {names}, which cannot be served: {_in_short(missing[0].reason)}"
    if winner is None:
        return f"none of {len(judged)} candidates passes every gate"
    passing = sum(one.result.passed for one in judged)
    return f"{winner.result.name} wins among {passing} of {len(judged)} that pass: {_figures(winner)}"


def _explain(one: _Judged, winner: _Judged | None, missing: Sequence[CandidateResult]) -> CandidateResult:
    if one is winner:
        return one.result
    return one.result.model_copy(update={"why_not_chosen": _why_not(one, winner, missing)})


def _why_not(one: _Judged, winner: _Judged | None, missing: Sequence[CandidateResult]) -> str:
    result = one.result
    if not result.served:
        return f"cannot be served: {_in_short(result.reason)}"
    failed = [gate for gate in result.gates if not gate.passed]
    if failed:
        return "; ".join(f"{gate.gate}: {gate.reason}" for gate in failed)
    if winner is None:
        return f"passes, but the release needs {', '.join(other.name for other in missing)} as well"
    if one.tokens_per_second < (1 - EQUAL_SPEED_FRACTION) * winner.tokens_per_second:
        return f"passes, but {winner.result.name} is faster: {_figures(winner)} against {_figures(one)}"
    return f"passes at the same speed, but {winner.result.name} is smaller: {_figures(winner)} against {_figures(one)}"


def _figures(one: _Judged) -> str:
    levels = one.result.speed
    concurrency = max((level.concurrency for level in levels), default=0)
    return f"{number(one.tokens_per_second)} tokens/s at {concurrency} concurrent, {size(one.size_bytes)}"


def _in_short(text: str | None) -> str:
    """Return the first line of a reason, and the last one, where a log's cause stands."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()] or ["no reason given"]
    return lines[0] if len(lines) == 1 else f"{lines[0]} [{lines[-1][:200]}]"
