"""The release's course: which step ran when, for how long, and how each run ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from serving.contracts.progress import EventKind, ProgressEvent

STEPS: Final = (
    "prepare_data",
    "validate_data",
    "train_model",
    "quantize_model",
    "benchmark_model",
    "register_model",
    "deploy_kserve",
    "analyze_canary",
    "conclude_release",
)
"""Steps of a release in their order; others stand behind them in the order they appeared."""

REPORT_STEP: Final = "build_report"


class RunState(StrEnum):
    """How one run of a step ended; a run that never said so was cut off, for example by a kill."""

    FINISHED = "finished"
    CACHED = "cached"
    FAILED = "failed"
    CUT_OFF = "cut-off"


@dataclass(frozen=True)
class Run:
    """One run of a step, in Unix seconds."""

    start: float
    end: float
    state: RunState
    message: str


@dataclass(frozen=True)
class Line:
    """All runs of one step, oldest first; none when the release did not reach it."""

    step: str
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """Time in all runs."""
        return sum(run.end - run.start for run in self.runs)

    @property
    def state(self) -> str:
        """How its last run ended, `not-reached` without one."""
        return str(self.runs[-1].state) if self.runs else "not-reached"


@dataclass(frozen=True)
class Timeline:
    """All steps between `start` and `end`, in Unix seconds; both None without events."""

    lines: tuple[Line, ...]
    start: float | None
    end: float | None

    @property
    def failed(self) -> Line | None:
        """The step whose failure ended the release; None when another step ended well after it.

        The pipeline's own failure repeats that of a step, so a step comes first.
        """
        reached = [line for line in self.lines if line.runs]
        well = max((line.runs[-1].end for line in reached if line.runs[-1].state is not RunState.FAILED), default=0.0)
        failed = [line for line in reached if line.runs[-1].state is RunState.FAILED and line.runs[-1].end >= well]
        return max(failed, key=lambda line: (line.step in STEPS, line.runs[-1].end), default=None)

    def share(self, moment: float) -> float:
        """Return where a moment lies between start and end, 0 to 1."""
        if self.start is None or self.end is None or self.end <= self.start:
            return 0.0
        return (moment - self.start) / (self.end - self.start)


def read_timeline(events: Sequence[ProgressEvent]) -> Timeline:
    """Sort events into runs of steps; the report's own step is left out, since it is still running."""
    seen = [event for event in events if event.step != REPORT_STEP]
    extra = dict.fromkeys(event.step for event in seen if event.step not in STEPS)
    lines = tuple(Line(step, _runs([event for event in seen if event.step == step])) for step in (*STEPS, *extra))
    if not seen:
        return Timeline(lines, None, None)
    return Timeline(lines, min(event.ts for event in seen), max(event.ts for event in seen))


def _runs(events: Sequence[ProgressEvent]) -> tuple[Run, ...]:
    groups: list[list[ProgressEvent]] = []
    for event in events:
        if event.kind is EventKind.STARTED or not groups:
            groups.append([])
        groups[-1].append(event)
    return tuple(_run(group) for group in groups)


def _run(events: Sequence[ProgressEvent]) -> Run:
    last = events[-1]
    said = next((event.message for event in reversed(events) if event.message), "")
    if last.kind is EventKind.FAILED:
        state = RunState.FAILED
    elif last.kind is not EventKind.FINISHED:
        state = RunState.CUT_OFF
    else:
        state = RunState.CACHED if any(event.kind is EventKind.CACHED for event in events) else RunState.FINISHED
    return Run(events[0].ts, max(event.ts for event in events), state, said)
