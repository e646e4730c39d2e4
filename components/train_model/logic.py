"""Obtain the base weights of a release: train them, or take existing ones."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from components.train_model.sources import SourceError, copy_path, download_hub, fetch_registry
from serving.contracts.data_contract import Split
from serving.contracts.release_spec import ResolvedRelease, TrainRecipe
from serving.contracts.training import StopReason, TrainingReport, beside_target
from serving.data_rows import split_file
from serving.files import digest_file, digest_folder, write_atomic
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings
from serving.source_content import require_unchanged
from serving.step_cache import StepCache

STEP = "train_model"
DOCUMENT = "training"
_MODEL_FOLDER = "model"
_REPORT_FILE = "report.json"
_CODE = ("components/train_model", "serving/data_rows.py", "serving/contracts/training.py")
_SPLITS = (Split.TRAIN, Split.EVALUATION, Split.LIVE)


def obtain(
    release: ResolvedRelease, data: Path, output: Path, *, settings: NexusSettings, record: ReleaseRecord
) -> TrainingReport:
    """Write the base weights as a Hugging Face folder and publish how they came to be.

    Args:
        release: Release whose source says where weights come from.
        data: Validated rows; only a trained source reads them.
        output: Folder to fill; replaced when it exists.
        settings: Names cache and registry.
        record: Receives progress and the document `training`.

    Raises:
        SourceError: A source from elsewhere does not give a whole model.
        ChangedSourceError: The weights of a path are not those that the release was resolved with.
        TrainingError: Training diverged.
        DataRowsError: The rows cannot be read.
    """
    with record.step(STEP) as progress:
        recipe = release.spec.source.train
        if recipe is None:
            report = _take(release, output, settings, progress)
        else:
            report = _train(recipe, release.attempt, data, output, settings, progress)
        record.publish(DOCUMENT, report)
        progress.summary = _summary(report, recipe.target_exact_match if recipe else None)
        return report


def _train(
    recipe: TrainRecipe, attempt: int, data: Path, output: Path, settings: NexusSettings, progress: Progress
) -> TrainingReport:
    """Train, or take the result of the same recipe on the same rows by the same code from the cache.

    What the time limit cut short says more about the machine's load than about the recipe: it is taken again by the
    same attempt only, so that a killed release resumes and `--again` trains anew.
    """
    cache = StepCache(settings.home / "cache")
    inputs = {
        "recipe": recipe.model_dump(mode="json"),
        "data": {split: digest_file(split_file(data, split)) for split in _SPLITS if split_file(data, split).exists()},
    }
    cut_short = {**inputs, "attempt": attempt}
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".train-") as folder:
        result = Path(folder) / "result"
        if any(cache.fetch(STEP, known, _CODE, result) for known in (inputs, cut_short)):
            progress.cached("the same recipe was trained on the same rows before")
            report = _read_report(result)
        else:
            report = _build(recipe, data, result, progress)
            whole = report.stop_reason is StopReason.TARGET_REACHED
            cache.store(STEP, inputs if whole else cut_short, _CODE, lambda entry: _copy(result, entry))
        _replace(result / _MODEL_FOLDER, output)
        return report


def _build(recipe: TrainRecipe, data: Path, result: Path, progress: Progress) -> TrainingReport:
    from components.train_model.recipe_run import run_recipe  # noqa: PLC0415 - imports torch: 8 s, only on a miss

    result.mkdir()
    report = run_recipe(recipe, data, result / _MODEL_FOLDER, progress.say)
    write_atomic(result / _REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    return report


def _read_report(result: Path) -> TrainingReport:
    return TrainingReport.model_validate_json((result / _REPORT_FILE).read_bytes())


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _take(release: ResolvedRelease, output: Path, settings: NexusSettings, progress: Progress) -> TrainingReport:
    source = release.spec.source
    origin = source.path or source.hub or source.mlflow
    assert origin is not None, "the contract sets exactly one source"
    progress.say(f"taking the weights of {origin}")
    started = time.monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".take-") as folder:
        model = Path(folder) / _MODEL_FOLDER
        if source.path is not None:
            parameters = copy_path(source.path, release.base_path, model)
        elif source.hub is not None:
            parameters = download_hub(source.hub, model)
        else:
            parameters = fetch_registry(origin, settings, model)
        _replace(model, output)
    digest = digest_folder(output)
    if source.path is not None:
        require_unchanged(Path(release.base_path) / source.path, got=digest, expected=release.weights_digest)
    return TrainingReport(
        stop_reason=StopReason.SKIPPED,
        steps=0,
        seconds=time.monotonic() - started,
        parameters=parameters,
        weights_digest=digest,
        origin=origin,
    )


def _replace(source: Path, target: Path) -> None:
    """Move a finished folder to its place."""
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)


def _summary(report: TrainingReport, target: float | None) -> str:
    if report.stop_reason is StopReason.SKIPPED:
        return f"weights of {report.origin}: {report.parameters:,} parameters"
    assert report.exact_match is not None
    assert target is not None
    several = "" if report.multi_turn_exact_match is None else f", {report.multi_turn_exact_match:.2f} in conversations"
    return (
        f"{report.stop_reason}: exact match {beside_target(report.exact_match, target)} of {target:.4g}{several} "
        f"after {report.steps} steps and {report.seconds:.0f} s"
    )


__all__ = ["DOCUMENT", "STEP", "SourceError", "obtain"]
