"""The running analysis: feeds the judge, takes the steps, and writes the verdict."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from components.analyze_canary import wording
from components.analyze_canary.judge import Judge, answered
from components.analyze_canary.observations import ObservationReader
from components.analyze_canary.step_log import Clock, StepLog
from components.analyze_canary.traffic import Traffic, labels_path, observations_dir
from serving.contracts.canary_verdict import CanaryVerdict, Decision
from serving.contracts.registration import Deployment
from serving.contracts.release_spec import CanaryMetric, CanaryStep, ResolvedRelease
from serving.record import Progress, ReleaseRecord
from serving.settings import NexusSettings

FIRST_RELEASE_STEP: Final = CanaryStep(weight_percent=100, min_candidate_requests=60)
"""A first release answers everybody at once: there is nobody else."""

_POLL_SECONDS: Final = 0.25
_SAY_EVERY_SECONDS: Final = 1.0

Shift = Callable[[int], str]
"""Commits the route of a weight in percent and returns the commit; the same weight again changes nothing."""


@dataclass(frozen=True)
class Canary:
    """Everything an analysis needs to know and to reach."""

    release: ResolvedRelease
    deployment: Deployment
    settings: NexusSettings
    record: ReleaseRecord
    shift: Shift
    clock: Clock

    @property
    def first_release(self) -> bool:
        """No stable version exists."""
        return self.deployment.stable_service is None

    @property
    def steps(self) -> tuple[CanaryStep, ...]:
        """Steps to take."""
        return (FIRST_RELEASE_STEP,) if self.first_release else self.release.spec.canary.steps


class Analysis:
    """One run of the analysis."""

    def __init__(self, canary: Canary, judge: Judge, traffic: Traffic | None, progress: Progress) -> None:
        self._canary = canary
        self._judge = judge
        self._traffic = traffic
        self._progress = progress
        self._log = StepLog(canary.record, canary.release.release_id)
        self._answers: list[float] = []
        self._said_at = 0.0
        settings, release_id = canary.settings, canary.release.release_id
        self._reader = ObservationReader(observations_dir(settings), labels_path(settings, release_id), release_id)

    def run(self, resume_weight: int | None) -> CanaryVerdict:
        """Take the steps that are left and return the verdict."""
        canary, clock = self._canary, self._canary.clock
        deadline = clock.now() + canary.release.spec.canary.max_seconds
        index = self._first_step(resume_weight)
        self._enter(index)
        while True:
            self._feed()
            decision = self._decide(index, late=clock.now() >= deadline)
            if decision is not None:
                return self._verdict(decision)
            if self._step_done(index):
                index += 1
                self._enter(index)
            self._say(index)
            if self._traffic is not None:
                self._traffic.check()
            clock.sleep(_POLL_SECONDS)

    def _first_step(self, resume_weight: int | None) -> int:
        """Find the step to go on with; without a weight from git the record's newest step counts."""
        if resume_weight is None:
            resume_weight = self._log.steps[-1].weight_percent if self._log.steps else 0
        weights = [step.weight_percent for step in self._canary.steps]
        return min(bisect_left(weights, resume_weight), len(weights) - 1)

    def _enter(self, index: int) -> None:
        self._log.enter(self._canary.steps[index].weight_percent, self._canary.shift, self._canary.clock)

    def _feed(self) -> None:
        for arrival in self._reader.poll(self._canary.clock.now()):
            self._judge.feed(arrival, self._log.weight_at(arrival.completed_at))
            if answered(arrival):
                self._answers.append(arrival.completed_at)
            if self._judge.harmed:
                return

    def _answered_in_step(self) -> int:
        return sum(moment >= self._log.current.started_at for moment in self._answers)

    def _step_done(self, index: int) -> bool:
        """Tell whether the next step may be taken; False at the last one."""
        left = len(self._canary.steps) - 1 - index
        enough = self._answered_in_step() >= self._canary.steps[index].min_candidate_requests
        return left > 0 and enough and self._judge.may_widen(to_last=left == 1)

    def _holding(self, index: int) -> list[CanaryMetric]:
        left = len(self._canary.steps) - 1 - index
        return self._judge.holding(to_last=left == 1) if left else self._judge.unsettled

    def _decide(self, index: int, *, late: bool) -> Decision | None:
        if self._judge.harmed:
            return Decision.ROLL_BACK
        last = index + 1 == len(self._canary.steps)
        enough = self._answered_in_step() >= self._canary.steps[index].min_candidate_requests
        if last and enough and self._judge.may_promote:
            return Decision.PROMOTE
        return Decision.INCONCLUSIVE if late else None

    def _say(self, index: int) -> None:
        now = self._canary.clock.now()
        if now - self._said_at < _SAY_EVERY_SECONDS:
            return
        self._said_at = now
        step = self._canary.steps[index]
        count = self._answered_in_step()
        text = wording.progress(
            step.weight_percent, count, step.min_candidate_requests, self._judge.state(), self._holding(index)
        )
        share = min(1.0, count / step.min_candidate_requests)
        self._progress.say(text, (index + share) / (len(self._canary.steps) + 1))

    def _verdict(self, decision: Decision) -> CanaryVerdict:
        canary, tally, steps = self._canary, self._reader.tally, self._log.steps
        counts = self._traffic.counts() if self._traffic else None
        dropped, failed = (counts.dropped, counts.failed) if counts else (0, 0)
        return CanaryVerdict(
            release_id=canary.release.release_id,
            decision=decision,
            reason=self._reason(decision),
            first_release=canary.first_release,
            alpha=canary.release.spec.canary.alpha,
            metrics=self._judge.state(),
            steps=steps,
            candidate_requests=tally.candidate,
            baseline_requests=tally.baseline,
            total_requests=tally.total,
            users_total=len(tally.users),
            users_on_candidate=len(tally.users_on_candidate),
            max_weight_percent=max(step.weight_percent for step in steps),
            seconds=max(0.0, canary.clock.now() - steps[0].started_at),
            notes=(*self._rule(), *wording.notes(self._reader, dropped=dropped, failed=failed)),
        )

    def _rule(self) -> tuple[str, ...]:
        spec = self._canary.release.spec
        return (wording.first_release_rule(spec.canary, spec.gates),) if self._canary.first_release else ()

    def _reason(self, decision: Decision) -> str:
        spec = self._canary.release.spec
        weight = self._log.current.weight_percent
        if decision is Decision.ROLL_BACK:
            return wording.harm(self._judge.state(), weight)
        if decision is Decision.PROMOTE:
            return wording.safe(self._judge.state(), weight, first_release=self._canary.first_release)
        return wording.undecided(
            self._judge.unsettled,
            seconds=spec.canary.max_seconds,
            unbalanced=self._judge.compared and self._judge.balance.lost,
            answered=len(self._answers),
        )
