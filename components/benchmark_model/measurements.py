"""What was measured, before any gate looks at it; the part of a benchmark that is kept and used again."""

from __future__ import annotations

from pydantic import Field

from serving.contracts.base import Name, StrictModel
from serving.contracts.benchmark_report import SpeedLevel


class RowOutcome(StrictModel):
    """One held-out row asked of one model.

    `answer_logprob` is the natural-log likelihood of the right answer's `answer_tokens` tokens given the prompt; None
    when the prompt and the answer do not fit the engine's context window, and the answer counts as wrong then.
    """

    exact: bool
    answer_logprob: float | None
    answer_tokens: int = Field(ge=0)


class ModelMeasurement(StrictModel):
    """One model's figures. `unserved` says why there are none, with the engine's last log lines."""

    name: Name
    unserved: str | None = None
    lost: bool = Field(default=False, description="Unserved for a reason that another run might not meet.")
    ready_seconds: float | None = None
    rows: tuple[RowOutcome, ...] = ()
    speed: tuple[SpeedLevel, ...] = ()


class Measurements(StrictModel):
    """All models of one run, candidates in the spec's order; `stable` is None on a first release."""

    candidates: tuple[ModelMeasurement, ...]
    stable: ModelMeasurement | None
    unquantized: Name | None = Field(description="Candidate with the base weights as they are, if there is one.")
    machine: str
    measured_at: float = Field(ge=0, description="Unix seconds at the end of the run.")
    seconds: float = Field(ge=0)
