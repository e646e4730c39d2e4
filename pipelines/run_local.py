"""Run a release's pipeline on this machine: `python -m pipelines.run_local <resolved release.json>`.

kfp's local runner starts each step as a process of its own. The record, not kfp's status, says whether the release
came to an end: kfp has constructs that its local runner skips silently.

Exit codes: 0 the release came to an end (`conclusion.json` says which), 1 it did not.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

import psutil

from serving import release_state
from serving.contracts.conclusion import Conclusion
from serving.contracts.progress import EventKind
from serving.record import ReleaseRecord
from serving.registry_host import registry_host
from serving.step_context import StepContext

STEP: Final = "pipeline"
_CONCLUSION = "conclusion"
_END_SECONDS = 10.0  # a step that was asked to end may still have to stop an engine


class PipelineError(Exception):
    """The pipeline ended without a conclusion."""


def run(step: StepContext) -> Conclusion:
    """Run a release to its conclusion, or bring one that git knows already to its end.

    Raises:
        PipelineError: A step failed, or kfp reported success without a conclusion.
    """
    state = release_state.read_release(step.gitops, step.release.release_id, step.settings.environment)
    if state.finished:
        return _finish(step)
    (step.record.folder / f"{_CONCLUSION}.json").unlink(missing_ok=True)
    _run_pipeline(step)
    conclusion = _concluded(step)
    if conclusion is None:
        raise PipelineError("expected a conclusion from a pipeline that reported success; there is none: see its log")
    return conclusion


def main(arguments: list[str] | None = None) -> int:
    """Run the release whose resolved JSON is named; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        sys.stderr.write("expected one argument, the path of a resolved release: python -m pipelines.run_local FILE\n")
        return 2
    step = StepContext.load(Path(given[0]).read_text())
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    before = len(step.record.events())
    try:
        conclusion = run(step)
    except Exception as exc:  # noqa: BLE001 - the edge of this process: every failure becomes an event and an exit code
        _report_failure(step.record, before, exc)
        return 1
    sys.stderr.write(f"{conclusion.outcome}: {conclusion.reason}\n")
    return 0


def _run_pipeline(step: StepContext) -> None:
    from kfp import local  # noqa: PLC0415 - 2 s that a finished release does not need

    from pipelines.release_model.pipeline import release_model  # noqa: PLC0415 - as above

    root = step.record.folder / "pipeline"
    shutil.rmtree(root, ignore_errors=True)  # copies of an earlier run; what they were made from is in the cache
    runner = local.SubprocessRunner(use_venv=False)
    workspace = str(step.record.folder / "workspace")
    local.init(runner, pipeline_root=str(root), workspace_root=workspace, raise_on_error=True)
    log = step.record.folder / "pipeline.log"
    with _output_to(log), registry_host(step.settings, log), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You may be attemping to run a task", category=RuntimeWarning)
        try:
            release_model(release=step.release.model_dump_json())
        except RuntimeError as exc:
            raise PipelineError(_plain(str(exc))) from exc


def _finish(step: StepContext) -> Conclusion:
    """Bring registry, node and record to agree with the ending in git, unless they do already."""
    conclusion = _concluded(step)
    if conclusion is None:
        from components.build_report.logic import build  # noqa: PLC0415 - only an interrupted ending needs it
        from components.conclude_release.logic import finish  # noqa: PLC0415 - as above

        conclusion = finish(step.release, settings=step.settings, record=step.record)
        build(step.record, step.record.folder / "report.html")
    return conclusion


def _concluded(step: StepContext) -> Conclusion | None:
    conclusion = step.record.read(_CONCLUSION, Conclusion)
    return conclusion if conclusion and conclusion.release_id == step.release.release_id else None


class _output_to:  # noqa: N801 - used as a function
    """Send this process's standard output and error, and its children's, to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: list[int] = []

    def __enter__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        log = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, number)
            os.close(saved)


def _report_failure(record: ReleaseRecord, before: int, exc: Exception) -> None:
    """Say why it failed, unless a step of this run has said so already."""
    if not any(event.kind is EventKind.FAILED for event in record.events()[before:]):
        record.emit(STEP, EventKind.FAILED, f"{type(exc).__name__}: {exc}"[:2000])
    sys.stderr.write(f"{type(exc).__name__}: {exc}\n")


def _end(number: int, _frame: FrameType | None) -> None:
    """End the running step with everything it started, then this process."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        _signal(child, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=_END_SECONDS)
    for child in alive:
        _signal(child, signal.SIGKILL)
    os._exit(128 + number)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _plain(text: str) -> str:
    """Drop the colours that kfp puts into its messages."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:])


if __name__ == "__main__":
    sys.exit(main())
