"""What the benchmark measured of every candidate and the stable model, and which one won."""

from __future__ import annotations

from pydantic import Field

from serving.contracts.base import Name, StrictModel


class Estimate(StrictModel):
    """A figure with its two-sided confidence interval; `n` is the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int = Field(ge=1)


class Quality(StrictModel):
    """Held-out quality; both comparisons are on the same rows, and None without a reference.

    `exact_match_loss` is stable minus candidate. `perplexity_ratio` is candidate over stable, or over the unquantized
    candidate on a first release.
    """

    exact_match: Estimate
    perplexity: Estimate
    exact_match_loss: Estimate | None = None
    perplexity_ratio: Estimate | None = None


class SpeedLevel(StrictModel):
    """Speed at one number of concurrent requests, all rounds pooled.

    Times in milliseconds; tokens/s counts output tokens of all requests over wall time.
    """

    concurrency: int = Field(ge=1)
    requests: int = Field(ge=1)
    errors: int = Field(ge=0)
    ttft_p50_ms: float
    ttft_p90_ms: float
    itl_p50_ms: float
    itl_p90_ms: float
    e2e_p50_ms: float
    e2e_p90_ms: float
    output_tokens_per_second: float
    output_tokens_per_second_rounds: tuple[float, ...] = ()

    @property
    def best_tokens_per_second(self) -> float:
        """Output tokens/s of the best round: what gates compare and what is told.

        Whatever else runs on the machine only ever slows a round down, so the best one is the steadiest to compare.
        """
        return max(self.output_tokens_per_second_rounds, default=self.output_tokens_per_second)


class GateResult(StrictModel):
    """One gate on one candidate; `measured` and `limit` are in the unit the name ends in."""

    gate: str
    passed: bool
    measured: float | None
    limit: float
    reason: str = Field(description="One sentence a person reads in the table.")


class CandidateResult(StrictModel):
    """One candidate's figures.

    `served` is False when it was not built, or the engine could not answer a real completion; `reason` says why.
    """

    name: Name
    served: bool
    reason: str | None = None
    ready_seconds: float | None = None
    quality: Quality | None = None
    speed: tuple[SpeedLevel, ...] = ()
    gates: tuple[GateResult, ...] = ()
    passed: bool
    why_not_chosen: str | None = Field(default=None, description="Empty only for the winner.")


class BenchmarkReport(StrictModel):
    """The offline verdict. A candidate that fails a gate is a result, never an error."""

    passed: bool
    reason: str = Field(default="", description="One sentence: why this winner, or why none.")
    winner: Name | None
    stable: CandidateResult | None = None
    candidates: tuple[CandidateResult, ...] = Field(min_length=1)
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of every interval in here.")
    measured_at: float = Field(
        default=0.0, ge=0, description="Unix seconds of the figures; older when they were reused."
    )
    machine: str
    seconds: float = Field(ge=0, description="Time the measuring took, whenever it was.")
