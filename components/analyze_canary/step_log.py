"""Weights that the canary took, kept in the release record so that a killed analysis goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from serving.contracts.canary_verdict import CanarySteps, WeightStep
from serving.record import ReleaseRecord

DOCUMENT: Final = "canary-steps"


@dataclass(frozen=True)
class Clock:
    """Time as the analysis sees it; tests bring their own. `now` is in Unix seconds, like the observations."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class StepLog:
    """Steps of one release, oldest first."""

    def __init__(self, record: ReleaseRecord, release_id: str) -> None:
        self._record = record
        self._release_id = release_id
        known = record.read(DOCUMENT, CanarySteps)
        self._steps = list(known.steps) if known is not None and known.release_id == release_id else []

    @property
    def steps(self) -> tuple[WeightStep, ...]:
        """Steps taken so far."""
        return tuple(self._steps)

    @property
    def current(self) -> WeightStep:
        """The newest step; there must be one."""
        return self._steps[-1]

    def enter(self, weight_percent: int, shift: Callable[[int], str], clock: Clock) -> None:
        """Move the traffic to a weight, and note it; entering the newest step again keeps its start."""
        commit = shift(weight_percent)
        if self._steps and self._steps[-1].weight_percent == weight_percent:
            return
        self._steps.append(WeightStep(weight_percent=weight_percent, commit=commit, started_at=clock.now()))
        self._record.publish(DOCUMENT, CanarySteps(release_id=self._release_id, steps=self.steps))

    def weight_at(self, moment: float) -> int:
        """Return the weight in effect at a Unix time; the first step's before it began."""
        return max(
            (step for step in self._steps if step.started_at <= moment),
            key=lambda step: step.started_at,
            default=self._steps[0],
        ).weight_percent
