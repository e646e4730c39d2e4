"""What the analysis says to people: progress while it runs, the reason of its verdict, what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.analyze_canary.judge import absolute_limit
from components.analyze_canary.observations import ObservationReader
from serving.contracts.canary_verdict import MetricEvidence, MetricState
from serving.contracts.release_spec import CanaryMetric, CanaryPlan, Gates, MetricKind


def name_of(metric: CanaryMetric) -> str:
    """Name a metric, with its quantile."""
    return metric.name if metric.quantile is None else f"{metric.name} p{round(metric.quantile * 100)}"


def names(metrics: Iterable[CanaryMetric]) -> str:
    """Name several metrics."""
    return ", ".join(name_of(metric) for metric in metrics)


def progress(weight_percent: int, answered: int, minimum: int, evidence: Sequence[MetricEvidence]) -> str:
    """Say where the canary stands: weight, candidate answers at this weight, what is safe, and how much is missing.

    Evidence is the decimal logarithm of an e-value, over the one that decides.
    """
    judged = [one for one in evidence if one.judged]
    parts = [f"{weight_percent} %: {answered}/{minimum} candidate answers"]
    if settled := names(one.metric for one in judged if one.state is MetricState.SAFE):
        parts.append(f"safe: {settled}")
    missing = [one for one in judged if one.state is MetricState.OPEN and one.metric.required]
    if missing:
        parts.append("evidence of safety: " + ", ".join(_towards_safe(one) for one in missing))
    if judged:
        worst = max(judged, key=lambda one: one.log10_e_harm - one.log10_harm_threshold)
        if worst.log10_e_harm > 0:
            figures = f"{worst.log10_e_harm:.1f}/{worst.log10_harm_threshold:.1f}"
            parts.append(f"of harm: {name_of(worst.metric)} {figures}")
    return "; ".join(parts)


def harm(evidence: Sequence[MetricEvidence], weight_percent: int) -> str:
    """Say which metrics were harmed, and by what evidence."""
    harmed = [one for one in evidence if one.state is MetricState.HARM]
    return f"harm at {weight_percent} %: " + "; ".join(_comparison(one) for one in harmed)


def safe(evidence: Sequence[MetricEvidence], weight_percent: int) -> str:
    """Say what was ruled out."""
    required = [one for one in evidence if one.judged and one.metric.required]
    return f"safe at {weight_percent} %: " + "; ".join(_comparison(one) for one in required)


def undecided(unsettled: Iterable[CanaryMetric], *, seconds: float, unbalanced: bool, answered: int) -> str:
    """Say what is missing after the time limit."""
    missing = []
    if answered == 0:
        missing.append("no candidate answer was observed")
    if unbalanced:
        missing.append("requests of the candidate are missing: fewer than 45 % of the judged ones are its")
    if open_metrics := names(unsettled):
        missing.append(f"not settled: {open_metrics}")
    why = "; ".join(missing) or "the last step did not reach its number of candidate answers"
    return f"undecided after {seconds:.0f} s: {why}; the weight holds"


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


def _towards_safe(one: MetricEvidence) -> str:
    return f"{name_of(one.metric)} {max(0.0, one.log10_e_safe):.1f}/{one.log10_safe_threshold:.1f}"


def _comparison(one: MetricEvidence) -> str:
    metric = one.metric
    unit = "" if metric.kind is MetricKind.RATE else " ms"
    figures = f"candidate {_figure(one.candidate)}{unit} (n={one.n_candidate})"
    if one.n_baseline:
        figures += f", baseline {_figure(one.baseline)}{unit} (n={one.n_baseline})"
    bound = f"margin {metric.margin:g}" if metric.margin is not None else f"ratio {metric.max_ratio:g}"
    evidence = one.log10_e_harm if one.state is MetricState.HARM else one.log10_e_safe
    return f"{name_of(metric)} {figures}, {bound}, evidence 10^{evidence:.1f}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _limit_text(metric: CanaryMetric, limit: float) -> str:
    return f"exact_match above {1 - limit:.3g}" if metric.name == "exact_match" else f"{metric.name} below {limit:.3g}"
