"""Canary verdict: what the sequential test decided, and the evidence it decided on."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from serving.contracts.base import API_VERSION, Name, StrictModel
from serving.contracts.release_spec import CanaryMetric


class Decision(StrEnum):
    """What happens to the candidate."""

    PROMOTE = "promote"
    ROLL_BACK = "roll-back"
    INCONCLUSIVE = "inconclusive"


class MetricState(StrEnum):
    """What the test knows of one metric."""

    OPEN = "open"
    SAFE = "safe"
    HARM = "harm"


class EvidencePoint(StrictModel):
    """The test after so many candidate requests; `log10_e_*` are log10 e-values (evidence against the null)."""

    candidate_requests: int = Field(ge=0)
    weight_percent: int = Field(ge=0, le=100)
    log10_e_harm: float
    log10_e_safe: float


class MetricEvidence(StrictModel):
    """Where one metric ended. Estimates are plain means or quantiles, in the metric's unit; None without data.

    A metric is SAFE while `log10_e_safe` is at or above its threshold, and HARM from the first request on which
    `log10_e_harm` reached its own. `judged` is False for a metric that cannot be judged on a first release.
    """

    metric: CanaryMetric
    state: MetricState
    judged: bool = True
    n_baseline: int = Field(ge=0)
    n_candidate: int = Field(ge=0)
    baseline: float | None
    candidate: float | None
    log10_e_harm: float
    log10_e_safe: float
    log10_harm_threshold: float
    log10_safe_threshold: float
    trail: tuple[EvidencePoint, ...] = ()


class WeightStep(StrictModel):
    """One commit of the route during the canary."""

    weight_percent: int = Field(ge=0, le=100)
    commit: str
    started_at: float = Field(description="Unix seconds.")


class CanarySteps(StrictModel):
    """Steps taken so far, kept in the release record while a canary runs, so that a killed analysis goes on."""

    release_id: Name
    steps: tuple[WeightStep, ...] = ()


class CanaryVerdict(StrictModel):
    """`kind: CanaryVerdict`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["CanaryVerdict"] = "CanaryVerdict"
    release_id: Name
    decision: Decision
    reason: str
    first_release: bool = Field(description="No stable version existed: judged by absolute gates only.")
    alpha: float
    metrics: tuple[MetricEvidence, ...]
    steps: tuple[WeightStep, ...]
    candidate_requests: int = Field(ge=0)
    baseline_requests: int = Field(ge=0)
    total_requests: int = Field(ge=0)
    users_total: int = Field(ge=0)
    users_on_candidate: int = Field(ge=0)
    max_weight_percent: int = Field(ge=0, le=100)
    seconds: float = Field(ge=0)
    notes: tuple[str, ...] = Field(
        default=(),
        description="What the reason has no room for: the rule of a first release, requests and lines that were left "
        "out, the last words of an engine that never answered.",
    )
