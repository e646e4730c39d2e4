"""The report's first lines: how the release ended, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.build_report.documents import Documents
from components.build_report.figures import milliseconds, percent
from components.build_report.timeline import Timeline
from serving.contracts.canary_verdict import CanaryVerdict, Decision, MetricEvidence, MetricState
from serving.contracts.conclusion import ReleaseOutcome
from serving.contracts.release_spec import CanaryMetric, MetricKind

METRIC_NAMES = {
    "error": "Failed requests",
    "exact_match": "Exact match",
    "format_failure": "Malformed answers",
    "refusal": "Refusals",
    "truncation": "Truncated answers",
    "ttft_ms": "Time to first token",
    "itl_ms": "Time between tokens",
    "total_ms": "Total time",
}


@dataclass(frozen=True)
class Headline:
    """`tone` colours it: good, bad, warn or idle."""

    tone: str
    word: str
    sentence: str
    reasons: Sequence[str] = ()


def headline(documents: Documents, timeline: Timeline) -> Headline:
    """Say how a release ended; the furthest document decides, unless a step failed after it."""
    if documents.data is not None and documents.data.broken:
        broken = documents.data.broken
        reasons = [f"{rule.split}: {rule.rule} - expected {rule.expected}, found {rule.found}" for rule in broken[:6]]
        return Headline("bad", "Rejected", f"The data breaks {_count(len(broken), 'rule')} of its contract.", reasons)
    failed = timeline.failed
    if failed is not None:
        return Headline("bad", "Failed", f"Step {failed.step} failed.", [failed.runs[-1].message])
    if documents.verdict is not None:
        return _judged(documents.verdict, documents)
    if documents.conclusion is not None and documents.conclusion.outcome is ReleaseOutcome.REJECTED:
        return Headline("bad", "Rejected", "No candidate was deployed.", [documents.conclusion.reason])
    if documents.benchmark is not None and not documents.benchmark.passed:
        reasons = [f"{c.name}: {c.why_not_chosen or c.reason}" for c in documents.benchmark.candidates]
        return Headline("bad", "Rejected", "No candidate passes the offline gates.", reasons)
    reached = [line.step for line in timeline.lines if line.runs]
    where = f"It came as far as {reached[-1]}." if reached else "No step has started."
    return Headline("idle", "Not finished", f"The release has no verdict. {where}")


def _judged(verdict: CanaryVerdict, documents: Documents) -> Headline:
    winner = documents.registration.candidate if documents.registration else "The candidate"
    requests = f"{_count(verdict.candidate_requests, 'request')} answered by the candidate"
    if verdict.decision is Decision.PROMOTE:
        after = "as the first stable version" if verdict.first_release else f"after {requests}"
        return Headline("good", "Promoted", f"{winner} serves all traffic {after}.", [verdict.reason])
    if verdict.decision is Decision.ROLL_BACK:
        stop = f"Stopped at {verdict.max_weight_percent} % of the traffic, after {requests}."
        harms = [harm_sentence(evidence) for evidence in verdict.metrics if evidence.state is MetricState.HARM]
        return Headline("bad", "Rolled back", stop, [*harms, verdict.reason])
    held = f"The evidence did not decide within the plan; the candidate stays at {verdict.max_weight_percent} %."
    return Headline("warn", "Inconclusive", held, [verdict.reason])


def metric_name(metric: CanaryMetric) -> str:
    """Name a metric for people, with its quantile: `Time to first token, p90`."""
    quantile = f", p{metric.quantile * 100:g}" if metric.quantile is not None else ""
    return METRIC_NAMES[metric.name] + quantile


def metric_value(metric: CanaryMetric, value: float | None) -> str:
    """Write a metric's value in its unit."""
    return percent(value) if metric.kind is MetricKind.RATE else milliseconds(value)


def metric_limit(metric: CanaryMetric) -> str:
    """Write how much worse a candidate may be."""
    if metric.margin is not None:
        return f"{metric.margin * 100:g} points"
    return f"{metric.max_ratio:g} times"


def harm_sentence(evidence: MetricEvidence) -> str:
    """Say what a metric was on both sides."""
    metric = evidence.metric
    stable, candidate = metric_value(metric, evidence.baseline), metric_value(metric, evidence.candidate)
    worse = f"at most {metric_limit(metric)} worse is allowed"
    return f"{metric_name(metric)}: {candidate} on the candidate, {stable} on the baseline; {worse}."


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
