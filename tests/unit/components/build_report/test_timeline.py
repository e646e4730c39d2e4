"""Events become runs of steps, whatever was killed in between."""

from __future__ import annotations

import pytest

from components.build_report.timeline import STEPS, Line, read_timeline
from serving.contracts.progress import EventKind, ProgressEvent


def events(*lines: tuple[float, str, str, str]) -> list[ProgressEvent]:
    """Make events from (time, step, kind, message)."""
    return [ProgressEvent(ts=ts, step=step, kind=EventKind(kind), message=message) for ts, step, kind, message in lines]


def line(made: list[ProgressEvent], step: str) -> Line:
    """Find one step's line."""
    return next(line for line in read_timeline(made).lines if line.step == step)


CASES = {
    "finished": ([(0, "started", ""), (2, "progress", "half"), (4, "finished", "done")], [(0, 4, "finished", "done")]),
    "cached": (
        [(0, "started", ""), (1, "cached", "made before"), (1, "finished", "")],
        [(0, 1, "cached", "made before")],
    ),
    "failed": ([(0, "started", ""), (3, "failed", "Error: x")], [(0, 3, "failed", "Error: x")]),
    "killed": ([(0, "started", ""), (3, "progress", "half")], [(0, 3, "cut-off", "half")]),
    "killed, then finished": (
        [(0, "started", ""), (3, "progress", "half"), (10, "started", ""), (12, "finished", "done")],
        [(0, 3, "cut-off", "half"), (10, 12, "finished", "done")],
    ),
    "retried": (
        [(0, "started", ""), (3, "failed", "Error: x"), (4, "started", ""), (6, "finished", "done")],
        [(0, 3, "failed", "Error: x"), (4, 6, "finished", "done")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_runs_of_a_step(case: str) -> None:
    """Each start opens a run; a run without an end was cut off at the last thing it said."""
    given, expected = CASES[case]
    runs = line(events(*((ts, "train_model", kind, message) for ts, kind, message in given)), "train_model").runs
    assert [(run.start, run.end, str(run.state), run.message) for run in runs] == expected


def test_steps_keep_their_order_and_unknown_ones_follow() -> None:
    """A step that did not run stands in its place; the report's own step is left out."""
    made = events(
        (5, "reject_release", "started", ""), (6, "build_report", "started", ""), (1, "train_model", "started", "")
    )
    timeline = read_timeline(made)
    assert [line.step for line in timeline.lines] == [*STEPS, "reject_release"]
    assert (timeline.start, timeline.end) == (1, 5)
    assert line(made, "prepare_data").state == "not-reached"


def test_failure_that_ended_the_release_is_the_steps() -> None:
    """The pipeline repeats a step's failure; a failure that a later run mended does not count."""
    failed = [(0, "train_model", "started", ""), (3, "train_model", "failed", "Error: x")]
    ended = read_timeline(events(*failed, (4, "pipeline", "failed", "a step failed"))).failed
    assert ended is not None
    assert ended.step == "train_model"
    mended = [(4, "train_model", "started", ""), (6, "train_model", "finished", "")]
    assert read_timeline(events(*failed, *mended)).failed is None
    only = read_timeline(events((4, "pipeline", "failed", "kfp died"))).failed
    assert only is not None
    assert only.step == "pipeline"


def test_no_events_is_no_time() -> None:
    """An empty record has neither start nor end."""
    timeline = read_timeline([])
    assert (timeline.start, timeline.end, timeline.failed, timeline.share(5)) == (None, None, None, 0)
