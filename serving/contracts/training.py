"""What training reports about the base weights."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from serving.contracts.base import Digest, Fraction, StrictModel


class StopReason(StrEnum):
    """Why training ended."""

    TARGET_REACHED = "target-reached"
    TIME_LIMIT = "time-limit"
    SKIPPED = "skipped-existing-weights"


class TrainingReport(StrictModel):
    """Base weights and how they came to be. `curve` holds (seconds, loss, held-out exact match) triples."""

    stop_reason: StopReason
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    parameters: int = Field(ge=0)
    exact_match: Fraction | None = None
    multi_turn_exact_match: Fraction | None = Field(
        default=None, description="On conversations of the live set, each answered after right earlier answers."
    )
    tokens_per_second: float | None = None
    weights_digest: Digest
    origin: str = Field(description="`train`, or the path, hub id or MLflow URI the weights came from.")
    curve: tuple[tuple[float, float, float], ...] = ()


def beside_target(value: float, target: float) -> str:
    """Write a measured share with as many digits, two at least, as show that it is below a target it misses."""
    for digits in range(2, 6):
        text = f"{value:.{digits}f}"
        if value >= target or float(text) < target:
            break
    return text
