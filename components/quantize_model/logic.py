"""Quantize the base weights by every recipe of a release, side by side."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.quantize_model.candidate import MAX_CALIBRATION_ROWS, STEP, Bench, build_candidate
from components.quantize_model.errors import BrokenWeightsError, QuantizationError, storage_errors
from components.quantize_model.methods import METHODS, Method
from components.quantize_model.workshop import Workshop
from serving.contracts.data_contract import Split
from serving.contracts.quantization_report import Candidate, CandidateStatus, QuantizationReport
from serving.contracts.release_spec import QuantizeMethod, QuantizeRecipe, ResolvedRelease
from serving.data_rows import read_rows, split_file
from serving.files import digest_folder
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings
from serving.step_cache import StepCache
from serving.weights_folder import Weights, WeightsFolderError, check_folder
from serving.wording import size


def quantize(
    release: ResolvedRelease,
    data: Path,
    base: Path,
    output: Path,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
    methods: Mapping[QuantizeMethod, Method] = METHODS,
) -> QuantizationReport:
    """Build every recipe's candidate, one after another, each where it cannot harm the others.

    Args:
        release: What to build; recipes in the spec's order.
        data: Folder with the validated `calibration.jsonl`.
        base: Hugging Face folder of the base weights.
        output: Folder to fill with one Hugging Face folder a built candidate; what it held is removed.
        settings: Where environments and the cache are.
        record: Where progress, the report (`quantization`) and the tools' logs go.
        methods: How each method is run.

    Returns:
        All recipes' outcomes. A recipe that failed and is not required is an outcome, not an error.

    Raises:
        QuantizationError: A required recipe failed; the report is published first.
        BrokenWeightsError: The base weights or their tokenizer cannot be used.
        StorageFullError: The disk is full; nothing half-written stays.
        DataRowsError: The calibration set cannot be read.
    """
    with storage_errors(output), record.step(STEP) as progress, storage_errors(output):
        weights = _check_base(base)
        rows = tuple(read_rows(split_file(data, Split.CALIBRATION))[:MAX_CALIBRATION_ROWS])
        with (
            _fresh(output) as scratch,
            Workshop(
                settings, logs=record.folder / "logs", folder=scratch, weights_bytes=weights.size_bytes
            ) as workshop,
        ):
            cache = StepCache(settings.home / "cache")
            bench = Bench(
                settings, weights, digest_folder(base), rows, workshop, cache, scratch, output, methods, progress.say
            )
            candidates = _candidates(bench, release.spec.recipes, progress)
        report = QuantizationReport(
            base_weights_digest=bench.base_digest,
            base_size_bytes=weights.size_bytes,
            calibration_rows=len(rows),
            candidates=candidates,
        )
        record.publish("quantization", report)
        progress.summary = _summary(report)
        _require(report)
    return report


def _check_base(folder: Path) -> Weights:
    try:
        return check_folder(folder)
    except WeightsFolderError as exc:
        raise BrokenWeightsError(str(exc)) from exc


@contextmanager
def _fresh(output: Path) -> Iterator[Path]:
    """Empty the output and give a scratch folder beside it.

    The scratch folder is removed afterwards, after a kill by the next run. When the step ends before every recipe was
    tried, the candidates go too: they are in the cache, and a full disk needs their space.
    """
    scratch = output.resolve().with_name(f".{output.name}.scratch")
    for folder in (output, scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _candidates(bench: Bench, recipes: tuple[QuantizeRecipe, ...], progress: Progress) -> tuple[Candidate, ...]:
    candidates: list[Candidate] = []
    for number, recipe in enumerate(recipes):
        progress.say(f"{recipe.name}: {recipe.method}, {number + 1} of {len(recipes)}", number / len(recipes))
        fraction = number / len(recipes)

        def say(message: str, name: str = recipe.name, done: float = fraction) -> None:
            progress.say(f"{name}: {message}", done)

        candidate, hit = build_candidate(bench, recipe, say)
        candidates.append(candidate)
        line = _line(candidate, bench.base.size_bytes)
        if hit:
            progress.cached(line)
        else:
            progress.say(line, (number + 1) / len(recipes))
    return tuple(candidates)


def _line(candidate: Candidate, base_bytes: int) -> str:
    if candidate.status is CandidateStatus.FAILED:
        return f"{candidate.name}: failed after {candidate.seconds:.1f} s: {candidate.reason}"
    assert candidate.size_bytes is not None
    worst = max(candidate.layer_errors.values(), default=0.0)
    return (
        f"{candidate.name}: built by {candidate.tool} in {candidate.seconds:.1f} s, "
        f"{size(candidate.size_bytes)} ({candidate.size_bytes / base_bytes:.0%} of the base), "
        f"largest layer error {worst:.2%}"
    )


def _summary(report: QuantizationReport) -> str:
    built = [c.name for c in report.candidates if c.status is CandidateStatus.BUILT]
    failed = [c.name for c in report.candidates if c.status is CandidateStatus.FAILED]
    return f"built {', '.join(built) or 'nothing'}" + (f"; failed {', '.join(failed)}" if failed else "")


def _require(report: QuantizationReport) -> None:
    failed = [c for c in report.candidates if c.status is CandidateStatus.FAILED]
    broken = [c for c in failed if c.required]
    if not broken and len(failed) < len(report.candidates):
        return
    reasons = "\n".join(f"{c.name} ({c.method}): {c.reason}" for c in broken or failed)
    what = "every required recipe" if broken else "at least one recipe"
    raise QuantizationError(f"expected {what} to build; these failed, correct or drop them:\n{reasons}")
