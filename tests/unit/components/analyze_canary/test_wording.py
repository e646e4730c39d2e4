"""What a person reads while the canary runs."""

from components.analyze_canary.wording import harm, progress, safe, undecided
from serving.contracts.canary_verdict import MetricEvidence, MetricState
from serving.contracts.release_spec import CanaryMetric, MetricKind
from serving.wording import REASON_CHARACTERS


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


STATES = [
    evidence(ERROR, MetricState.SAFE, -0.2, 1.4),
    evidence(MATCH, MetricState.OPEN, 0.1, -0.3),
    evidence(TAIL, MetricState.OPEN, 0.9, 0.0),
]


def test_progress_names_what_is_waited_for() -> None:
    """One line says answers and minimum, what holds the step and how much is missing, and the nearest alarm."""
    line = progress(25, 520, 60, STATES, [MATCH])
    assert line == (
        "25 %: 520 candidate answers, needs ≥ 60; waiting for exact_match (harm 0.1/2.1); safe: error; "
        "nearest to harm: ttft_ms p90 (harm 0.9/2.1)"
    )
    held = progress(25, 9, 60, [STATES[0]], [ERROR])
    assert held == "25 %: 9 candidate answers, needs ≥ 60; waiting for error (safety 1.4/1.3)"


def test_progress_without_evidence_says_only_the_count() -> None:
    """No metric judged yet leaves the count alone."""
    assert progress(5, 0, 15, [], []) == "5 %: 0 candidate answers, needs ≥ 15"


def test_reasons_give_the_decisive_figures() -> None:
    """Harm names the harmed metrics only; safety names the required ones and the least evidence of them."""
    harmed = evidence(MATCH, MetricState.HARM, 2.4, -3.0).model_copy(update={"candidate": 0.61, "baseline": 0.894})
    assert harm([STATES[0], harmed], 25) == "harm at 25 %: exact_match 0.61 vs 0.894 (n=7, evidence 10^2.4)"
    settled = [STATES[0], evidence(MATCH, MetricState.SAFE, -3.0, 2.0), STATES[2]]
    line = safe(settled, 50, first_release=False)
    assert line == "safe at 50 % (evidence ≥ 10^1.4): error 0 vs 0; exact_match 0 vs 0"
    assert safe(settled, 100, first_release=True).startswith("first release, by absolute gates: safe at 100 %")


def test_reasons_fit_one_line_whatever_the_plan_asks_for() -> None:
    """Forty metrics, all harmed, all required, all open."""
    many = [MATCH] * 40
    harmed = [evidence(one, MetricState.HARM, 2.4, -3.0) for one in many]
    settled = [evidence(one, MetricState.SAFE, -2.4, 3.0) for one in many]
    for line in (
        harm(harmed, 25),
        safe(settled, 50, first_release=True),
        undecided(many, seconds=600, unbalanced=True, answered=0),
    ):
        assert len(line) <= REASON_CHARACTERS
        assert "more" in line or line.endswith("…")
