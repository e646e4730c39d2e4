"""One measuring run: serve everybody, ask everybody, time everybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from components.benchmark_model.engines import Lineup, OpenEngine, Subject, serve_all
from components.benchmark_model.machine import describe_machine
from components.benchmark_model.measurements import Measurements, ModelMeasurement, RowOutcome
from components.benchmark_model.quality import measure_quality
from components.benchmark_model.speed import measure_speed
from components.benchmark_model.subjects import Contest, StableNotServedError
from serving.contracts.benchmark_report import SpeedLevel
from serving.contracts.data_contract import DataRow
from serving.contracts.release_spec import BenchmarkPlan

Say = Callable[[str], None]


def measure(
    contest: Contest, rows: Sequence[DataRow], plan: BenchmarkPlan, *, open_engine: OpenEngine, log_path: Path, say: Say
) -> Measurements:
    """Measure quality and speed of everybody who takes part.

    Args:
        contest: Candidates and stable model.
        rows: Held-out rows, at least one; the quality run asks the first `plan.quality_rows`.
        plan: What to run.
        open_engine: Serves one subject while its context is open.
        log_path: File for the harness's own output.
        say: Told of the progress.

    Raises:
        StableNotServedError: The stable model could not be served, or stopped answering.
    """
    begin = time.monotonic()
    outcomes: Mapping[str, tuple[RowOutcome, ...]] = {}
    speed: Mapping[str, tuple[SpeedLevel, ...]] = {}
    with serve_all(contest.subjects if contest.candidates else (), open_engine, say) as lineup:
        if any(subject.name in lineup.served for subject in contest.candidates):
            _check_stable(contest, lineup)
            say(f"{len(lineup.served)} engines answer after {time.monotonic() - begin:.0f} s")
            outcomes = measure_quality(lineup, rows[: plan.quality_rows], log_path=log_path, say=say)
            _check_stable(contest, lineup)
            say(f"quality is known after {time.monotonic() - begin:.0f} s")
            speed = asyncio.run(measure_speed(lineup, plan, rows, say=say))
            _check_stable(contest, lineup)
            say(f"speed is known after {time.monotonic() - begin:.0f} s")

    def figures(subject: Subject, name: str) -> ModelMeasurement:
        served = lineup.served.get(subject.name)
        return ModelMeasurement(
            name=name,
            unserved=lineup.unserved.get(subject.name),
            lost=subject.name in lineup.lost,
            ready_seconds=served.ready_seconds if served else None,
            rows=outcomes.get(subject.name, ()) if served else (),
            speed=speed.get(subject.name, ()),
        )

    return Measurements(
        candidates=tuple(figures(subject, subject.name) for subject in contest.candidates),
        stable=figures(contest.stable, "stable") if contest.stable else None,
        unquantized=contest.unquantized,
        machine=describe_machine(),
        measured_at=time.time(),
        seconds=time.monotonic() - begin,
    )


def _check_stable(contest: Contest, lineup: Lineup) -> None:
    if contest.stable is None or contest.stable.name in lineup.served:
        return
    raise StableNotServedError(
        "expected the stable model to be served as it is in production; it cannot be: "
        f"{lineup.unserved[contest.stable.name]}"
    )
