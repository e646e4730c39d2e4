"""Say a verdict's evidence in one line, for a commit's trailer and the registry's tag."""

from __future__ import annotations

from serving.contracts.canary_verdict import CanaryVerdict, MetricEvidence
from serving.files import digest_bytes


def summarise(verdict: CanaryVerdict) -> str:
    """Write counts, each metric's state with its e-values, and the digest of the whole verdict, on one line.

    A verdict without metrics (an engine that never answered) gives its reason in their place.
    """
    counts = (
        f"{verdict.candidate_requests} candidate and {verdict.baseline_requests} baseline requests, "
        f"{verdict.users_on_candidate} of {verdict.users_total} users, at most {verdict.max_weight_percent} %"
    )
    parts = [counts, *(_metric(metric) for metric in verdict.metrics)] if verdict.metrics else [verdict.reason, counts]
    digest = digest_bytes(verdict.model_dump_json().encode())
    return "; ".join([*parts, f"alpha {verdict.alpha:g}", f"verdict {digest}"])


def _metric(evidence: MetricEvidence) -> str:
    metric = evidence.metric
    name = metric.name if metric.quantile is None else f"{metric.name} p{metric.quantile * 100:g}"
    figures = f"{_figure(evidence.candidate)} vs {_figure(evidence.baseline)}"
    e_values = f"log10 e harm {evidence.log10_e_harm:.2f} safe {evidence.log10_e_safe:.2f}"
    return f"{name} {evidence.state} ({figures}, {e_values})"


def _figure(value: float | None) -> str:
    return "no data" if value is None else f"{value:.4g}"
