"""What a person reads while the canary runs."""

from components.analyze_canary.wording import progress
from serving.contracts.canary_verdict import MetricEvidence, MetricState
from serving.contracts.release_spec import CanaryMetric, MetricKind


def evidence(metric: CanaryMetric, state: MetricState, harm: float, safe: float) -> MetricEvidence:
    return MetricEvidence(
        metric=metric,
        judged=True,
        state=state,
        n_baseline=5,
        n_candidate=7,
        baseline=0.0,
        candidate=0.0,
        log10_e_harm=harm,
        log10_e_safe=safe,
        log10_harm_threshold=2.08,
        log10_safe_threshold=1.3,
    )


ERROR = CanaryMetric(name="error", kind=MetricKind.RATE, margin=0.05)
MATCH = CanaryMetric(name="exact_match", kind=MetricKind.RATE, margin=0.1)
TAIL = CanaryMetric(name="ttft_ms", kind=MetricKind.QUANTILE, quantile=0.9, max_ratio=3.0, required=False)


def test_progress_names_what_is_safe_what_is_missing_and_the_worst_harm() -> None:
    """One line says the step's count, the settled metrics, the evidence still missing, and the nearest alarm."""
    line = progress(
        25,
        39,
        60,
        [
            evidence(ERROR, MetricState.SAFE, -0.2, 1.4),
            evidence(MATCH, MetricState.OPEN, 0.1, -0.3),
            evidence(TAIL, MetricState.OPEN, 0.9, 0.0),
        ],
    )
    assert line == (
        "25 %: 39/60 candidate answers; safe: error; evidence of safety: exact_match 0.0/1.3; "
        "of harm: ttft_ms p90 0.9/2.1"
    )


def test_progress_without_evidence_says_only_the_count() -> None:
    """No metric judged yet leaves the count alone."""
    assert progress(5, 0, 15, []) == "5 %: 0/15 candidate answers"
