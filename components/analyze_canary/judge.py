"""The judge: one test a metric, fed request by request, and what their evidence allows.

Harm on any metric stops the release, so the error is split over the metrics: each stops at evidence of
`metrics / alpha`. Promotion needs every required metric to be safe, each at `1 / alpha`: a harmful candidate is harmful
on some metric, and that metric's own test is wrong with probability at most alpha (intersection-union). Metrics that
are not required only stop for harm.

What a request is worth to each metric: `error` looks at every request that the gateway passed on; `truncation` at
answered ones; latencies at streamed answers, where the time to the first token means something; `exact_match`,
`format_failure` and `refusal` at answered requests with a label. A request without an answer is an error and nothing
else. Requests that the client gave up or the gateway refused are judged by none (`balance.py` watches for the bias).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from components.analyze_canary.balance import Balance
from components.analyze_canary.observations import Arrival
from components.analyze_canary.quantiles import QuantileTest
from components.analyze_canary.rates import LimitTest, RateTest
from components.analyze_canary.samples import Samples, value_of
from components.analyze_canary.trail import Trail
from serving.contracts.canary_verdict import EvidencePoint, MetricEvidence, MetricState
from serving.contracts.observation import Outcome, Side
from serving.contracts.release_spec import CanaryMetric, CanaryPlan, Gates, MetricKind

_LN10: Final = math.log(10)
_LEANING_HARM_LOG10: Final = 0.5
"""Evidence for harm (about 3 to 1) at which a step is not left, however many requests it has had."""


class EvidenceTest(Protocol):
    """Two e-processes over one metric; natural logarithms."""

    def add(self, value: float, /, *, candidate: bool) -> None:
        """Add one value of one side."""

    @property
    def log_e_harm(self) -> float:
        """Evidence that the candidate is harmful."""

    @property
    def log_e_safe(self) -> float:
        """Evidence that it is not."""


@dataclass
class _Metric:
    """One metric on the bench; `test` is None where a first release has nothing to be compared with."""

    metric: CanaryMetric
    test: EvidenceTest | None
    harm_threshold: float
    safe_threshold: float
    samples: Samples = field(default_factory=Samples)
    trail: Trail = field(default_factory=Trail)
    harmed: bool = False

    @property
    def log10_e_harm(self) -> float:
        return self.test.log_e_harm / _LN10 if self.test else 0.0

    @property
    def log10_e_safe(self) -> float:
        return self.test.log_e_safe / _LN10 if self.test else 0.0

    @property
    def state(self) -> MetricState:
        if self.harmed:
            return MetricState.HARM
        return MetricState.SAFE if self.log10_e_safe >= self.safe_threshold else MetricState.OPEN

    def feed(self, arrival: Arrival, weight_percent: int) -> None:
        value = value_of(self.metric.name, arrival)
        if value is None:
            return
        candidate = arrival.observation.side is Side.CANDIDATE
        self.samples.add(value, candidate=candidate)
        if self.test is None:
            return
        bad = 1 - value if self.metric.name == "exact_match" else value
        self.test.add(bad, candidate=candidate)
        self.harmed = self.harmed or self.log10_e_harm >= self.harm_threshold
        self.trail.add(self._point(arrival.number, weight_percent))

    def _point(self, number: int, weight_percent: int) -> EvidencePoint:
        return EvidencePoint(
            candidate_requests=number,
            weight_percent=weight_percent,
            log10_e_harm=self.log10_e_harm,
            log10_e_safe=self.log10_e_safe,
        )


class Judge:
    """Judges one release by its plan.

    Args:
        plan: Metrics and alpha.
        first_release: Absolute gates of a release without a stable version to compare with; None otherwise. Each rate
            is then held to its margin from perfect, exact match to `gates.quality.min_exact_match` minus its margin.
    """

    def __init__(self, plan: CanaryPlan, *, first_release: Gates | None = None) -> None:
        safe = math.log10(1 / plan.alpha)
        harm = math.log10(len(plan.metrics) / plan.alpha)
        self.balance = Balance(plan.alpha)
        self.compared = first_release is None
        self._metrics = [
            _Metric(metric, _make_test(metric, first_release), harm_threshold=harm, safe_threshold=safe)
            for metric in plan.metrics
        ]

    def feed(self, arrival: Arrival, weight_percent: int) -> None:
        """Add one arrival; arrivals come in the reader's order. `weight_percent` is only noted in the trail."""
        if arrival.label is None:
            self.balance.add(candidate=arrival.observation.side is Side.CANDIDATE)
        for metric in self._metrics:
            metric.feed(arrival, weight_percent)

    @property
    def harmed(self) -> list[CanaryMetric]:
        """Metrics on which harm was shown; never becomes empty again."""
        return [m.metric for m in self._metrics if m.state is MetricState.HARM]

    @property
    def unsettled(self) -> list[CanaryMetric]:
        """Required metrics that are not safe at this moment."""
        return [m.metric for m in self._required() if m.state is not MetricState.SAFE]

    @property
    def may_promote(self) -> bool:
        """Every required metric is safe, there is one, nothing was harmed, and no side's requests went missing."""
        required = self._required()
        settled = bool(required) and not self.unsettled and not self.harmed
        return settled and not (self.compared and self.balance.lost)

    def may_widen(self, *, to_last: bool) -> bool:
        """Tell whether more users may meet the candidate; no claim with an error bound, but a rule of care.

        No metric leans to harm, and every required one has data. For the last step every required metric must moreover
        lean to safety, so that a candidate about to be found harmful is found at the smaller weight (ADR 0004,
        section 6: it keeps act 2's candidate of the demo from the last step).
        """
        return not self.harmed and not self.holding(to_last=to_last)

    def holding(self, *, to_last: bool) -> list[CanaryMetric]:
        """Metrics because of which no more users may meet the candidate yet."""
        tested = [metric for metric in self._metrics if metric.test is not None]
        return [metric.metric for metric in tested if not self._leans_well(metric, to_last=to_last)]

    def _leans_well(self, metric: _Metric, *, to_last: bool) -> bool:
        harm, safe = metric.log10_e_harm, metric.log10_e_safe
        if harm >= _LEANING_HARM_LOG10 or (harm > 0 and harm > safe):
            return False
        if not metric.metric.required:
            return True
        return metric.samples.has_data(both=self.compared) and (not to_last or (safe >= harm and safe >= 0))

    def state(self) -> tuple[MetricEvidence, ...]:
        """Return the evidence of every metric, in the plan's order."""
        return tuple(_evidence(metric) for metric in self._metrics)

    def _required(self) -> Sequence[_Metric]:
        return [m for m in self._metrics if m.metric.required and m.test is not None]


def answered(arrival: Arrival) -> bool:
    """Tell whether an arrival is a candidate's answer, the unit that a step's minimum counts."""
    observation = arrival.observation
    return arrival.label is None and observation.side is Side.CANDIDATE and observation.outcome is Outcome.OK


def absolute_limit(metric: CanaryMetric, gates: Gates) -> float | None:
    """Largest bad rate a first release may have; None where there is nothing to hold it to."""
    if metric.margin is None:
        return None
    if metric.name == "exact_match":
        limit = 1 - gates.quality.min_exact_match + metric.margin
        return limit if limit < 1 else None
    return metric.margin if 0 < metric.margin < 1 else None


def _make_test(metric: CanaryMetric, first_release: Gates | None) -> EvidenceTest | None:
    if first_release is not None:
        limit = absolute_limit(metric, first_release)
        return None if limit is None else LimitTest(limit)
    if metric.kind is MetricKind.RATE:
        assert metric.margin is not None
        return RateTest(metric.margin)
    assert metric.quantile is not None
    assert metric.max_ratio is not None
    return QuantileTest(metric.quantile, metric.max_ratio)


def _evidence(metric: _Metric) -> MetricEvidence:
    samples = metric.samples
    return MetricEvidence(
        metric=metric.metric,
        state=metric.state,
        judged=metric.test is not None,
        n_baseline=samples.count(candidate=False),
        n_candidate=samples.count(candidate=True),
        baseline=samples.estimate(metric.metric, candidate=False),
        candidate=samples.estimate(metric.metric, candidate=True),
        log10_e_harm=metric.log10_e_harm,
        log10_e_safe=metric.log10_e_safe,
        log10_harm_threshold=metric.harm_threshold,
        log10_safe_threshold=metric.safe_threshold,
        trail=metric.trail.points(),
    )
