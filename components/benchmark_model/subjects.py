"""Who takes part in a benchmark: the built candidates and the stable model, found on disk and named by content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.benchmark_model.engines import Subject
from serving.contracts.model_version import ModelVersion
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.release_spec import QuantizeMethod, ResolvedRelease
from serving.files import digest_bytes, digest_file, digest_folder, local_path

STABLE = "(stable)"
"""Name of the stable model among the subjects; no candidate can have it, for the brackets."""

_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".gguf"}


class StableNotServedError(Exception):
    """The stable model, which answers in production, cannot be measured here; nothing can be said of a candidate."""


@dataclass(frozen=True)
class Contest:
    """All recipes of a release, and the subjects there are: built candidates in the spec's order, then stable."""

    recipes: tuple[Candidate, ...]
    candidates: tuple[Subject, ...]
    stable: Subject | None
    unquantized: str | None
    digests: tuple[tuple[str, str], ...]

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Everybody who is measured."""
        return (*self.candidates, self.stable) if self.stable else self.candidates

    def identity(self) -> dict[str, Any]:
        """Describe by content what is measured and how it is served."""
        return {
            "digests": dict(self.digests),
            "engines": {subject.name: subject.engine.model_dump(mode="json") for subject in self.subjects},
            "unquantized": self.unquantized,
        }


def gather_contest(
    release: ResolvedRelease,
    candidates: Path,
    quantization: QuantizationReport,
    stable: ModelVersion | None,
    *,
    logs: Path,
) -> Contest:
    """Find everybody who takes part.

    Args:
        release: The release; its engine settings serve the candidates.
        candidates: Folder with one Hugging Face folder a built candidate.
        quantization: What was built.
        stable: What is served in production, with its own engine settings; None on a first release.
        logs: Folder for the engines' logs.

    Raises:
        StableNotServedError: The stable model's weights are not on this machine.
    """
    built = [one for one in quantization.candidates if one.status is CandidateStatus.BUILT]
    model, engine, candidates = release.spec.model, release.spec.engine, candidates.resolve()
    subjects = tuple(
        Subject(one.name, candidates / one.name, engine, model, logs / f"benchmark-{one.name}.log") for one in built
    )
    incumbent = None
    if stable is not None:
        path = stable_weights(stable)
        incumbent = Subject(STABLE, path, stable.spec.engine, model, logs / "benchmark-stable-model.log")
    digests = [(one.name, _identify(candidates / one.name, one.weights_digest)) for one in built]
    if stable is not None and incumbent is not None:
        digests.append((STABLE, _identify(incumbent.path, stable.spec.weights_digest)))
    unquantized = next((one.name for one in built if one.method is QuantizeMethod.NONE), None)
    return Contest(quantization.candidates, subjects, incumbent, unquantized, tuple(digests))


def stable_weights(stable: ModelVersion) -> Path:
    """Return the folder of the stable model's weights.

    Raises:
        StableNotServedError: Its storage URI is no local folder.
    """
    uri = stable.spec.storage_uri
    path = local_path(uri)
    if path is None or not path.is_dir():
        raise StableNotServedError(
            f"expected the stable model's weights in a folder on this machine; got {uri!r}: restore it, "
            f"or roll the environment back to a version that exists"
        )
    return path.resolve()


def _identify(folder: Path, weights_digest: str | None) -> str:
    """Name a model folder by content: the weights' known digest and everything small beside them."""
    if weights_digest is None:
        return digest_folder(folder)
    return digest_bytes("\n".join([weights_digest, *_small_files(folder)]).encode())


def _small_files(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in _WEIGHT_SUFFIXES:
            yield f"{file.relative_to(folder).as_posix()} {digest_file(file)}"
