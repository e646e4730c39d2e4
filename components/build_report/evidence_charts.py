"""Charts of the canary: the candidate's weight over time, and each metric's evidence over requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.build_report.axis import Axis, axis
from components.build_report.figures import number, percent
from components.build_report.headline import metric_limit, metric_name, metric_value
from components.build_report.svg import Band, Rule, Series, plot
from serving.contracts.canary_verdict import CanaryVerdict, Decision, EvidencePoint, MetricEvidence, MetricState

_FLOOR = -2.0
"""Lowest log10 e-value drawn: below a hundredth the evidence says nothing more that a reader needs."""

_HEADROOM = 1.15
_STATES = {MetricState.HARM: ("harmed", "bad"), MetricState.SAFE: ("safe", "good"), MetricState.OPEN: ("open", "warn")}


@dataclass(frozen=True)
class MetricCard:
    """One judged metric: its figures in words and its chart (empty without a trail)."""

    name: str
    state: str
    tone: str
    baseline: str
    candidate: str
    limit: str
    n_baseline: int
    n_candidate: int
    required: bool
    chart: str


def weight_chart(verdict: CanaryVerdict) -> str:
    """Draw the candidate's share of users over the seconds since the first step; empty without steps."""
    if not verdict.steps:
        return ""
    start = verdict.steps[0].started_at
    points = [(step.started_at - start, float(step.weight_percent)) for step in verdict.steps]
    final = {Decision.PROMOTE: 100.0, Decision.ROLL_BACK: 0.0, Decision.INCONCLUSIVE: points[-1][1]}[verdict.decision]
    end = max(verdict.seconds, points[-1][0] + 1)
    across = axis([end * 1.06], "seconds since the first step", include=[0])
    upward = Axis(0, 100, "users on the candidate", (0, 25, 50, 75, 100), lambda value: f"{value:.0f} %")
    style = {Decision.PROMOTE: "safe", Decision.ROLL_BACK: "harm", Decision.INCONCLUSIVE: "open"}[verdict.decision]
    line = Series(
        "weight", ((0.0, 0.0), *points, (end, points[-1][1]), (end, final), (across.high, final)), style, "steps"
    )
    marks = Series("step", tuple(points), f"{style} marks", dots=True)
    return plot("Users on the candidate over time", across, upward, [line, marks])


def metric_cards(verdict: CanaryVerdict) -> list[MetricCard]:
    """Describe every metric: harmed ones first, then open, then safe ones."""
    order = [MetricState.HARM, MetricState.OPEN, MetricState.SAFE]
    return [_card(one) for one in sorted(verdict.metrics, key=lambda one: order.index(one.state))]


def _card(evidence: MetricEvidence) -> MetricCard:
    metric = evidence.metric
    state, tone = _STATES[evidence.state] if evidence.judged else ("not judged", "idle")
    return MetricCard(
        name=metric_name(metric),
        state=state,
        tone=tone,
        baseline=metric_value(metric, evidence.baseline),
        candidate=metric_value(metric, evidence.candidate),
        limit=metric_limit(metric),
        n_baseline=evidence.n_baseline,
        n_candidate=evidence.n_candidate,
        required=metric.required,
        chart=evidence_chart(evidence),
    )


def evidence_chart(evidence: MetricEvidence) -> str:
    """Draw both e-values of one metric over the candidate's requests, with their thresholds; empty without a trail."""
    if not evidence.trail or not evidence.judged:
        return ""
    trail = sorted(evidence.trail, key=lambda point: point.candidate_requests)
    limits = (evidence.log10_harm_threshold, evidence.log10_safe_threshold)
    values = [value for point in trail for value in (point.log10_e_harm, point.log10_e_safe)]
    high = max(*(value * _HEADROOM for value in limits), *values, 0.5)
    across = axis([point.candidate_requests for point in trail], "requests answered by the candidate", include=[0])
    upward = _evidence_axis(high)
    lines = [
        Series("evidence of harm", tuple((p.candidate_requests, max(_FLOOR, p.log10_e_harm)) for p in trail), "harm"),
        Series("evidence of safety", tuple((p.candidate_requests, max(_FLOOR, p.log10_e_safe)) for p in trail), "safe"),
    ]
    rules = [Rule(limits[0], "stop", "harm-limit"), Rule(limits[1], "safe", "safe-limit")]
    if abs(limits[0] - limits[1]) < 0.05:
        rules = [Rule(limits[0], "enough evidence")]
    return plot(
        f"Evidence on {metric_name(evidence.metric)}",
        across,
        upward,
        lines,
        rules=rules,
        bands=_bands(trail, across.high),
    )


def _evidence_axis(high: float) -> Axis:
    last = int(-(-high // 1))
    step = max(1, -(-(last - int(_FLOOR)) // 6))
    ticks = tuple(float(k) for k in range(0, last + 1, step))
    return Axis(_FLOOR, float(last), "evidence, times", ticks, _times)


def _times(log10: float) -> str:
    return number(10.0**log10) if log10 <= 3 else f"10{str(int(log10)).translate(_SUPERSCRIPTS)}"


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _bands(trail: Sequence[EvidencePoint], end: float) -> list[Band]:
    starts: list[tuple[float, int]] = []
    for point in trail:
        if not starts or starts[-1][1] != point.weight_percent:
            starts.append((float(point.candidate_requests) if starts else 0.0, point.weight_percent))
    ends = [start for start, _ in starts[1:]] + [end]
    return [Band(start, stop, f"{weight} %") for (start, weight), stop in zip(starts, ends, strict=True)]


def reach(verdict: CanaryVerdict) -> str:
    """Say how many users ever met the candidate."""
    if not verdict.users_total:
        return "no users"
    share = percent(verdict.users_on_candidate / verdict.users_total)
    return f"{number(verdict.users_on_candidate)} of {number(verdict.users_total)} users ({share})"
