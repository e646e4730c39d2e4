"""What the analysis says to people: progress while it runs, the reason of its verdict, what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.analyze_canary.judge import absolute_limit
from components.analyze_canary.observations import ObservationReader
from serving.contracts.canary_verdict import MetricEvidence, MetricState
from serving.contracts.release_spec import CanaryMetric, CanaryPlan, Gates, MetricKind
from serving.wording import list_within


def name_of(metric: CanaryMetric) -> str:
    """Name a metric, with its quantile."""
    return metric.name if metric.quantile is None else f"{metric.name} p{round(metric.quantile * 100)}"


def names(metrics: Iterable[CanaryMetric]) -> str:
    """Name several metrics."""
    return ", ".join(name_of(metric) for metric in metrics)


def progress(
    weight_percent: int,
    answered: int,
    minimum: int,
    evidence: Sequence[MetricEvidence],
    holding: Sequence[CanaryMetric],
) -> str:
    """Say where the canary stands and what it waits for: answers at this weight, and metrics that hold it back.

    Evidence is the decimal logarithm of an e-value, over the one that decides.

    Args:
        weight_percent: The candidate's share of the users.
        answered: Candidate answers at this weight.
        minimum: How many the step needs at least.
        evidence: State of every metric.
        holding: Metrics without which the step is not left.
    """
    judged = [one for one in evidence if one.judged]
    parts = [f"{weight_percent} %: {answered} candidate answers, needs ≥ {minimum}"]
    if waiting := ", ".join(_standing(one) for one in judged if one.metric in holding):
        parts.append(f"waiting for {waiting}")
    if settled := names(one.metric for one in judged if one.state is MetricState.SAFE and one.metric not in holding):
        parts.append(f"safe: {settled}")
    worst = max(judged, key=lambda one: one.log10_e_harm - one.log10_harm_threshold, default=None)
    if worst is not None and worst.log10_e_harm > 0 and worst.metric not in holding:
        parts.append(f"nearest to harm: {_harm(worst)}")
    return "; ".join(parts)


def harm(evidence: Sequence[MetricEvidence], weight_percent: int) -> str:
    """Say which metrics were harmed, and by what evidence."""
    harmed = [one for one in evidence if one.state is MetricState.HARM]
    parts = [f"{_comparison(one)} (n={one.n_candidate}, evidence 10^{one.log10_e_harm:.1f})" for one in harmed]
    return list_within(f"harm at {weight_percent} %: ", parts)


def safe(evidence: Sequence[MetricEvidence], weight_percent: int, *, first_release: bool) -> str:
    """Say what was ruled out, and by how much evidence at least."""
    required = [one for one in evidence if one.judged and one.metric.required]
    least = min((one.log10_e_safe for one in required), default=0.0)
    rule = "first release, by absolute gates: " if first_release else ""
    head = f"{rule}safe at {weight_percent} % (evidence ≥ 10^{least:.1f}): "
    return list_within(head, [_comparison(one) for one in required])


def undecided(unsettled: Iterable[CanaryMetric], *, seconds: float, unbalanced: bool, answered: int) -> str:
    """Say what is missing after the time limit."""
    missing = []
    if answered == 0:
        missing.append("no candidate answer was observed")
    if unbalanced:
        missing.append("requests of the candidate are missing (below 45 %)")
    if open_metrics := names(unsettled):
        missing.append(f"not settled: {open_metrics}")
    missing = missing or ["the last step did not reach its number of candidate answers"]
    return list_within(f"undecided after {seconds:.0f} s, the weight holds: ", missing)


def first_release_rule(plan: CanaryPlan, gates: Gates) -> str:
    """State the absolute rule that a first release is judged by."""
    limits = [(metric, absolute_limit(metric, gates)) for metric in plan.metrics]
    held = [_limit_text(metric, limit) for metric, limit in limits if limit is not None]
    unheld = [metric for metric, limit in limits if limit is None]
    text = f"first release, no stable version to compare with; absolute gates: {', '.join(held)}"
    return f"{text}; not judged: {names(unheld)}" if unheld else text


def notes(reader: ObservationReader, *, dropped: int, failed: int) -> tuple[str, ...]:
    """List what was left out of the judgement, and why; empty when nothing was."""
    tally = reader.tally
    counted = (
        (tally.disconnected, "requests were given up by their clients and are judged by no metric"),
        (
            tally.rejected,
            "requests were refused by the gateway and are judged by no metric",
        ),
        (tally.unlabelled, "answers have no label and count for no quality metric"),
        (reader.broken_lines, "spool lines could not be read"),
        (dropped, "simulated requests were not sent, because too many others were unanswered"),
        (failed, "simulated requests got no whole answer"),
    )
    return tuple(f"{count} {text}" for count, text in counted if count)


def _standing(one: MetricEvidence) -> str:
    """Say how far a metric is from safety, or how it leans to harm."""
    if one.log10_e_harm > max(0.0, one.log10_e_safe):
        return _harm(one)
    return f"{name_of(one.metric)} (safety {max(0.0, one.log10_e_safe):.1f}/{one.log10_safe_threshold:.1f})"


def _harm(one: MetricEvidence) -> str:
    return f"{name_of(one.metric)} (harm {one.log10_e_harm:.1f}/{one.log10_harm_threshold:.1f})"


def _comparison(one: MetricEvidence) -> str:
    """Name a metric with the candidate's figure, against the baseline's where there is one."""
    unit = "" if one.metric.kind is MetricKind.RATE else " ms"
    against = f" vs {_figure(one.baseline)}" if one.n_baseline else ""
    return f"{name_of(one.metric)} {_figure(one.candidate)}{against}{unit}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _limit_text(metric: CanaryMetric, limit: float) -> str:
    return f"exact_match above {1 - limit:.3g}" if metric.name == "exact_match" else f"{metric.name} below {limit:.3g}"
