"""Benchmark every candidate beside the stable model, and judge them by the release's gates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Final

from components.benchmark_model.engines import Handle, Subject
from components.benchmark_model.machine import identify_machine
from components.benchmark_model.measure import measure
from components.benchmark_model.measurements import Measurements
from components.benchmark_model.questions import read_rows
from components.benchmark_model.subjects import Contest, gather_contest
from components.benchmark_model.verdict import judge
from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.data_contract import Split
from serving.contracts.model_version import ModelVersion
from serving.contracts.quantization_report import QuantizationReport
from serving.contracts.release_spec import ResolvedRelease
from serving.data_rows import split_file
from serving.environment_lock import installed_lock
from serving.files import digest_file
from serving.local.engine_client import ensure_parent, leased_engine
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings
from serving.step_cache import StepCache

STEP: Final = "benchmark_model"
_FIGURES = "measurements.json"
_CODE = (
    "components/benchmark_model",
    "serving/contracts/benchmark_report.py",
    "serving/engines",
    "serving/local",
)


class _NotReusable(Exception):  # noqa: N818 - carries a result past the cache, no error
    """Figures that a later run must measure again."""

    def __init__(self, measured: Measurements) -> None:
        super().__init__()
        self.measured = measured


def benchmark(
    release: ResolvedRelease,
    data: Path,
    candidates: Path,
    quantization: QuantizationReport,
    stable: ModelVersion | None,
    *,
    settings: NexusSettings,
    record: ReleaseRecord,
) -> BenchmarkReport:
    """Serve all built candidates and the stable model, measure them in one run, and name the best that passes.

    Figures are used again while nothing they depend on has changed: weights, rows, plan, engine settings, code and
    machine. Gates are always applied afresh.

    Args:
        release: The release.
        data: Folder with `evaluation.jsonl`.
        candidates: Folder with one Hugging Face folder a built candidate.
        quantization: What was built.
        stable: What is served in production; None on a first release.
        settings: Settings of this home.
        record: Gets progress and the document `benchmark`.

    Returns:
        The verdict; a candidate that cannot be served or fails a gate is part of it.

    Raises:
        StableNotServedError: The stable model cannot be served, or its weights are gone.
        EngineError: No engine at all can be started here.
    """
    with record.step(STEP) as progress:
        logs = record.folder / "logs"
        contest = gather_contest(release, candidates, quantization, stable, logs=logs)
        measured = _measured(release, data, contest, settings, logs=logs, progress=progress)
        report = judge(measured, release.spec.gates, quantization.candidates)
        record.publish("benchmark", report)
        progress.summary = report.reason
        return report


def _measured(
    release: ResolvedRelease, data: Path, contest: Contest, settings: NexusSettings, *, logs: Path, progress: Progress
) -> Measurements:
    """Take figures from the cache, or measure; figures behind a verdict that failed are not kept."""
    plan, gates = release.spec.benchmark, release.spec.gates
    inputs = {
        "contest": contest.identity(),
        "data": digest_file(split_file(data, Split.EVALUATION)),
        "plan": plan.model_dump(mode="json"),
        "machine": identify_machine(),
        "threads": settings.engine_threads,
        "locks": [installed_lock(settings, name) for name in ("core", "engine")],
    }

    def build(folder: Path) -> None:
        if contest.candidates:
            Thread(target=_import_early, args=("components.benchmark_model.harness",), daemon=True).start()
            ensure_parent(settings, progress.say)
        measured = measure(
            contest,
            read_rows(data),
            plan,
            open_engine=lambda subject: _lease(settings, subject),
            log_path=logs / "benchmark-lm-eval.log",
            say=progress.say,
        )
        if any(one.lost for one in measured.candidates) or not judge(measured, gates, contest.recipes).passed:
            raise _NotReusable(measured)
        (folder / _FIGURES).write_text(measured.model_dump_json())

    with TemporaryDirectory(prefix="nexus-benchmark-") as work:
        output = Path(work) / "figures"
        try:
            hit = StepCache(settings.home / "cache").run(STEP, inputs, _CODE, output, build)
        except _NotReusable as result:
            return result.measured
        measured = Measurements.model_validate_json((output / _FIGURES).read_bytes())
    if hit:
        age = _age(time.time() - measured.measured_at)
        progress.cached(f"figures measured {age} ago on this machine with the same weights, data, plan and code")
    return measured


@contextmanager
def _lease(settings: NexusSettings, subject: Subject) -> Iterator[Handle]:
    with leased_engine(
        settings,
        engine=subject.engine,
        model_path=subject.path,
        served_name=subject.served_name,
        log_path=subject.log_path,
    ) as handle:
        yield handle


def _import_early(module: str) -> None:
    """Import while engines start; who needs it waits for this import, or sees its error by importing again."""
    with suppress(ImportError):
        import_module(module)


def _age(seconds: float) -> str:
    """Say a time span in its largest fitting unit."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
