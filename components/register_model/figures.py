"""What the registry keeps of a release: every figure of its benchmark, and where everything came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.contracts.benchmark_report import BenchmarkReport, CandidateResult
from serving.contracts.data_contract import DataReport
from serving.contracts.quantization_report import Candidate, QuantizationReport
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.training import TrainingReport
from serving.environment_lock import UNSTAMPED, installed_lock
from serving.settings import NexusSettings
from serving.step_context import read_artifact

_TAG_CHARACTERS = 5000  # MLflow's bound on the value of a run's or a version's tag


@dataclass(frozen=True)
class Reports:
    """Documents of the steps before registration."""

    data: DataReport
    training: TrainingReport
    quantization: QuantizationReport
    benchmark: BenchmarkReport

    @classmethod
    def read(cls, data: str, training: str, quantization: str, benchmark: str) -> Reports:
        """Read the four documents from their artifacts."""
        return cls(
            read_artifact(data, DataReport),
            read_artifact(training, TrainingReport),
            read_artifact(quantization, QuantizationReport),
            read_artifact(benchmark, BenchmarkReport),
        )

    def documents(self) -> Mapping[str, str]:
        """Return each as JSON, by file name."""
        parts = {
            "data": self.data,
            "training": self.training,
            "quantization": self.quantization,
            "benchmark": self.benchmark,
        }
        return {f"{name}.json": part.model_dump_json(indent=2) for name, part in parts.items()}


def metrics(reports: Reports, winner: Candidate, result: CandidateResult) -> dict[str, float]:
    """Flatten every measured figure of the winner to `part.figure`, in the unit its name ends in."""
    out: dict[str, float | None] = {
        "weights.size_bytes": winner.size_bytes,
        "weights.base_size_bytes": reports.quantization.base_size_bytes,
        "quantization.seconds": winner.seconds,
        "training.seconds": reports.training.seconds,
        "training.exact_match": reports.training.exact_match,
        "training.parameters": reports.training.parameters,
        "engine.ready_seconds": result.ready_seconds,
    }
    if result.quality is not None:
        for name in ("exact_match", "perplexity", "exact_match_loss", "perplexity_ratio"):
            estimate = getattr(result.quality, name)
            if estimate is not None:
                parts = {"": estimate.value, ".low": estimate.low, ".high": estimate.high, ".n": estimate.n}
                out |= {f"quality.{name}{suffix}": value for suffix, value in parts.items()}
    for level in result.speed:
        figures = level.model_dump(exclude={"concurrency", "output_tokens_per_second_rounds"})
        out |= {f"speed.c{level.concurrency}.{name}": value for name, value in figures.items()}
    for gate in result.gates:
        out[f"gate.{gate.gate}"] = gate.measured
    return {name: float(value) for name, value in out.items() if value is not None}


def params(release: ResolvedRelease, reports: Reports, winner: Candidate) -> dict[str, str]:
    """Return what was chosen: recipe, tool, engine and its arguments, origin of the base weights."""
    recipe = next(recipe for recipe in release.spec.recipes if recipe.name == winner.name)
    engine = release.spec.engine
    return {
        "recipe": recipe.name,
        "method": recipe.method.value,
        "bits": str(recipe.bits),
        "group_size": str(recipe.group_size),
        "tool": winner.tool,
        "base.origin": reports.training.origin,
        "base.stop_reason": reports.training.stop_reason.value,
        "data.contract": f"{reports.data.contract} {reports.data.contract_version}",
        "engine": engine.name.value,
        "benchmark.machine": reports.benchmark.machine,
        **{f"engine.{name}": str(value) for name, value in engine.arguments.items()},
    }


def tags(release: ResolvedRelease, reports: Reports, winner: Candidate, settings: NexusSettings) -> dict[str, str]:
    """Return what it can be traced by: digests, revision, release, locks of the environments it went through."""
    values = {
        "nexus.release": release.release_id,
        "nexus.spec": release.name,
        "nexus.spec_digest": release.spec_digest,
        "nexus.git_revision": release.git_revision,
        "nexus.recipe": winner.name,
        "nexus.method": winner.method.value,
        "nexus.data_digest": reports.data.data_digest,
        "nexus.base_weights_digest": reports.quantization.base_weights_digest,
        "nexus.lock.core": installed_lock(settings, "core"),
        "nexus.lock.engine": installed_lock(settings, "engine"),
        "nexus.lock.recipe": winner.lock or UNSTAMPED,
    }
    return {name: value[:_TAG_CHARACTERS] for name, value in values.items()}
