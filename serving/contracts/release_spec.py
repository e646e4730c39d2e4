"""Release spec: what to build, how to judge it offline, and how to shift traffic to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.base import API_VERSION, Digest, Fraction, Metadata, Name, StrictModel
from serving.contracts.data_contract import DataContract


class TrainRecipe(StrictModel):
    """A small Llama trained from nothing on the contract's training set, on the CPU or one GPU.

    Training stops at `target_exact_match` on the held-out set or after `max_seconds`, whichever comes first.
    """

    hidden_size: int = Field(default=128, ge=16, le=4096)
    layers: int = Field(default=3, ge=1, le=64)
    heads: int = Field(default=4, ge=1, le=64)
    vocabulary_size: int = Field(default=1024, ge=300, le=65536)
    learning_rate: float = Field(default=3e-3, gt=0, lt=1)
    batch_size: int = Field(default=8, ge=1, le=1024)
    warmup_steps: int = Field(default=30, ge=0)
    max_length_tokens: int = Field(default=256, ge=16, le=8192)
    target_exact_match: Fraction = 0.9
    max_seconds: float = Field(default=180.0, gt=0)
    seed: int = 7


class Source(StrictModel):
    """Where the base weights come from; exactly one field is set."""

    train: TrainRecipe | None = None
    path: str | None = Field(default=None, description="Hugging Face folder, absolute or relative to the spec file.")
    hub: str | None = Field(default=None, description="Hub id `owner/name@revision`; needs a reachable hub.")
    mlflow: str | None = Field(default=None, description="MLflow URI such as `models:/support-assistant@stable`.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        chosen = [name for name, value in self if value is not None]
        if len(chosen) != 1:
            raise ValueError(f"expected exactly one of train, path, hub, mlflow; got {chosen or 'none'}")
        return self


class QuantizeMethod(StrEnum):
    """How weights are made smaller; each is one file in `components/quantize_model/methods`."""

    NONE = "none"
    W8A8_INT8 = "llmcompressor-w8a8-int8"
    FP8_DYNAMIC = "llmcompressor-fp8-dynamic"
    GPTQ_W4A16 = "llmcompressor-gptq-w4a16"
    RTN_DENSE = "round-to-nearest-dense"
    GPTQMODEL_W4A16 = "gptqmodel-w4a16"
    AUTO_GPTQ_W4A16 = "auto-gptq-w4a16"


class QuantizeRecipe(StrictModel):
    """One candidate to build from the base weights."""

    name: Name
    method: QuantizeMethod
    bits: int = Field(default=8, ge=2, le=16, description="Bits of a weight; only round-to-nearest reads it.")
    group_size: int = Field(
        default=32,
        ge=-1,
        le=1024,
        description="Columns that share a scale (W4A16 and round-to-nearest); -1 is a whole row.",
    )
    max_seconds: float = Field(default=3600.0, gt=0, description="The recipe's tool is stopped after this.")
    required: bool = Field(default=False, description="The release fails when this recipe cannot be built or served.")


class EngineName(StrEnum):
    """Engines the engine table knows."""

    VLLM = "vllm"
    SGLANG = "sglang"


class EngineSettings(StrictModel):
    """How the candidate is served; `arguments` are the engine's own long options without the dashes."""

    name: EngineName = EngineName.VLLM
    arguments: dict[str, str | int | float | bool] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    ready_timeout_seconds: float = Field(default=240.0, gt=0, le=3600)


class QualityGate(StrictModel):
    """Quality a candidate must keep, absolutely and against the stable model."""

    min_exact_match: Fraction = 0.0
    max_exact_match_loss: Fraction = Field(
        default=0.02,
        description="Non-inferiority margin against the stable model, lower confidence bound of the paired difference.",
    )
    max_perplexity_ratio: float = Field(default=1.1, gt=0, description="Candidate over stable (or base) perplexity.")
    confidence: Fraction = 0.95


class SpeedGate(StrictModel):
    """Speed a candidate must reach, absolutely and as a ratio to the stable model in the same run."""

    max_ttft_p90_ms: float | None = Field(default=None, gt=0)
    max_itl_p90_ms: float | None = Field(default=None, gt=0)
    min_throughput_ratio: float | None = Field(
        default=None, gt=0, description="Tokens/s over the stable model's, at the highest concurrency."
    )


class BenchmarkPlan(StrictModel):
    """What the benchmark runs on each candidate."""

    quality_rows: int = Field(default=300, ge=20, description="Held-out rows asked of every candidate.")
    concurrency: tuple[int, ...] = (1, 4, 16)
    requests_per_level: int = Field(default=32, ge=8)
    rounds: int = Field(default=2, ge=1, le=20, description="Interleaved rounds over all candidates.")


class Gates(StrictModel):
    """All offline gates of a release."""

    quality: QualityGate = QualityGate()
    speed: SpeedGate = SpeedGate()


class MetricKind(StrEnum):
    """How a per-request observation is compared."""

    RATE = "rate"
    QUANTILE = "quantile"


class CanaryMetric(StrictModel):
    """One thing the canary is judged by.

    `rate` metrics compare means of a 0/1 value: harm is a difference beyond `margin` (in the bad direction).
    `quantile` metrics compare the given quantile: harm is candidate over baseline beyond `max_ratio`.
    """

    name: Literal["error", "exact_match", "format_failure", "refusal", "truncation", "ttft_ms", "itl_ms", "total_ms"]
    kind: MetricKind
    margin: Fraction | None = None
    quantile: Fraction | None = None
    max_ratio: float | None = Field(default=None, gt=1)
    required: bool = Field(
        default=True, description="Must be ruled safe before promotion; otherwise it can only stop for harm."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind is MetricKind.RATE and (
            self.margin is None or self.quantile is not None or self.max_ratio is not None
        ):
            raise ValueError("a rate metric takes `margin` and neither `quantile` nor `max_ratio`")
        if self.kind is MetricKind.QUANTILE and (
            self.quantile is None or self.max_ratio is None or self.margin is not None
        ):
            raise ValueError("a quantile metric takes `quantile` and `max_ratio` and no `margin`")
        if (self.name in ("ttft_ms", "itl_ms", "total_ms")) != (self.kind is MetricKind.QUANTILE):
            raise ValueError(f"{self.name} cannot be a {self.kind} metric")
        return self


class CanaryStep(StrictModel):
    """One stop on the way to full traffic."""

    weight_percent: int = Field(ge=1, le=100)
    min_candidate_requests: int = Field(ge=1, description="Answered candidate requests before the next step.")


class SimulatedTraffic(StrictModel):
    """Simulated users for a machine without real ones: open loop, Poisson arrivals, each user sticks to a side."""

    rate_per_second: float = Field(gt=0, le=1000)
    users: int = Field(ge=10, le=1_000_000)
    streaming_fraction: Fraction = 0.7
    multi_turn_fraction: Fraction = 0.4
    seed: int = 11


class CanaryPlan(StrictModel):
    """How traffic shifts and when the test may stop it."""

    steps: tuple[CanaryStep, ...] = Field(min_length=1)
    metrics: tuple[CanaryMetric, ...] = Field(min_length=1)
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="Bound on wrongly promoting, and on wrongly rolling back."
    )
    max_seconds: float = Field(
        default=600.0, gt=0, description="After this the verdict is Inconclusive and the weight holds."
    )
    traffic: SimulatedTraffic | None = Field(default=None, description="None means that real users send the traffic.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        weights = [step.weight_percent for step in self.steps]
        if weights != sorted(set(weights)):
            raise ValueError(f"step weights must rise strictly; got {weights}")
        if weights[-1] > 50:
            raise ValueError(
                f"the last step must leave the baseline an equal share (at most 50); got {weights[-1]}: "
                "100 is the promotion itself"
            )
        names = [metric.name for metric in self.metrics]
        if len(set((m.name, m.quantile) for m in self.metrics)) != len(names):
            raise ValueError(f"metrics must differ in name or quantile; got {names}")
        return self


class ReleaseBody(StrictModel):
    """Body of a release spec."""

    model: Name = Field(description="Served model name that consumers ask for.")
    source: Source
    data_contract: str = Field(description="Path of the data contract, relative to the spec file.")
    recipes: tuple[QuantizeRecipe, ...] = Field(min_length=1)
    engine: EngineSettings = EngineSettings()
    benchmark: BenchmarkPlan = BenchmarkPlan()
    gates: Gates = Gates()
    canary: CanaryPlan

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [recipe.name for recipe in self.recipes]
        if len(set(names)) != len(names):
            raise ValueError(f"recipe names must differ; got {names}")
        return self


class ReleaseSpec(StrictModel):
    """`kind: Release`: the one document that starts a release."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["Release"]
    metadata: Metadata
    spec: ReleaseBody


class ResolvedRelease(StrictModel):
    """A release spec with everything it refers to, as it travels through the pipeline.

    `release_id` is `<model>-<12 hex>` of the canonical spec, contract and attempt: the same content, the same release.
    The bytes behind a `source.path` are content, too; the path is not.
    """

    release_id: Name
    attempt: int = Field(ge=1)
    git_revision: str = Field(description="Revision of the repository that holds the spec, or `unversioned`.")
    spec_digest: Digest
    data_digest: Digest | None = Field(default=None, description="Of the data behind the contract's `source.path`.")
    weights_digest: Digest | None = Field(default=None, description="Of the weights behind the spec's `source.path`.")
    base_path: str = Field(description="Folder of the spec file; relative paths in `source.path` start here.")
    name: Name
    spec: ReleaseBody
    contract: DataContract
