"""What quantization made of the base weights, recipe by recipe."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from serving.contracts.base import Digest, Name, StrictModel
from serving.contracts.release_spec import QuantizeMethod


class CandidateStatus(StrEnum):
    """Whether a recipe gave weights that can be tried."""

    BUILT = "built"
    FAILED = "failed"


class Candidate(StrictModel):
    """One recipe's outcome. A built candidate's weights lie in the folder of its name, in Hugging Face format."""

    name: Name
    method: QuantizeMethod
    required: bool
    status: CandidateStatus
    reason: str | None = Field(default=None, description="Why it failed, with the tool's own last words.")
    weights_digest: Digest | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    seconds: float = Field(ge=0)
    tool: str = Field(description="Library and version, such as `llmcompressor 0.14.0.1`.")
    lock: str | None = Field(
        default=None, description="Lock that the tool's environment was installed from when it ran, with its digest."
    )
    layer_errors: dict[str, float] = Field(
        default_factory=dict,
        description="Layer name to relative Frobenius error of its dequantized weight, without unit.",
    )


class QuantizationReport(StrictModel):
    """All recipes of a release, in the spec's order."""

    base_weights_digest: Digest
    base_size_bytes: int = Field(ge=0)
    calibration_rows: int = Field(ge=0)
    candidates: tuple[Candidate, ...] = Field(min_length=1)
