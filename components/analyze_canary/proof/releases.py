"""Plays whole canaries by a release's own plan: steps, all metrics, promotion, rollback and the time limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from components.analyze_canary.judge import Judge
from components.analyze_canary.observations import HOLD_SECONDS, Arrival
from components.analyze_canary.proof.worlds import MEDIAN_MS, bursts
from serving.contracts.canary_verdict import Decision
from serving.contracts.observation import Label, Observation, Outcome, Side
from serving.contracts.release_spec import CanaryPlan, SimulatedTraffic

_SPREAD: Final = 0.5
_GAP_MS: Final = 12.0
_OVERHEAD_SECONDS: Final = 3.0
"""From a step's commit until the gateway routes by it."""


@dataclass(frozen=True)
class Act:
    """A candidate's truth. Shares of right answers by number of turns; ratios of its latencies to the baseline's."""

    name: str
    right: Decision
    single_turn: float = 0.9
    multi_turn: float = 0.9
    latency_ratio: float = 1.0
    error: float = 0.0
    burst_factor: float = 1.0


@dataclass(frozen=True)
class Played:
    """One played canary."""

    decision: Decision
    seconds: float
    candidate_requests: int
    max_weight_percent: int


ACTS: Final[Sequence[Act]] = (
    Act("act 1: as good as the baseline", Decision.PROMOTE),
    Act("act 1 with load bursts of factor 3", Decision.PROMOTE, burst_factor=3.0),
    Act("act 1, latencies 20 % longer", Decision.PROMOTE, latency_ratio=1.2),
    Act("act 1, two points less exact match", Decision.PROMOTE, single_turn=0.88, multi_turn=0.88),
    Act("act 2: breaks turns after the first", Decision.ROLL_BACK, multi_turn=0.1),
    Act("act 2 with load bursts of factor 3", Decision.ROLL_BACK, multi_turn=0.1, burst_factor=3.0),
    Act("latencies 3 times as long", Decision.ROLL_BACK, latency_ratio=3.0),
    Act("every fifth request fails", Decision.ROLL_BACK, error=0.2),
)


def play(plan: CanaryPlan, act: Act, random: np.random.Generator) -> Played:
    """Play one canary of `act` by `plan`, which must simulate its users."""
    assert plan.traffic is not None
    judge = Judge(plan)
    index, started, answered, number = 0, 0.0, 0, 0
    for now, arrivals in _requests(plan.traffic, act, random):
        if now > plan.max_seconds:
            break
        weight = plan.steps[index].weight_percent
        side = _side(random.random(), weight)
        effective = now - started > _OVERHEAD_SECONDS
        if side is None or not (effective or index):
            continue
        number += side is Side.CANDIDATE
        for arrival in arrivals(side, number):
            judge.feed(arrival, weight)
            answered += arrival.label is None and side is Side.CANDIDATE and effective
        if judge.harmed:
            return Played(Decision.ROLL_BACK, now + HOLD_SECONDS, number, weight)
        if answered < plan.steps[index].min_candidate_requests:
            continue
        if index + 1 == len(plan.steps) and judge.may_promote:
            return Played(Decision.PROMOTE, now + HOLD_SECONDS, number, weight)
        left = len(plan.steps) - 1 - index
        if left and judge.may_widen(to_last=left == 1):
            index, started, answered = index + 1, now, 0
    return Played(Decision.INCONCLUSIVE, plan.max_seconds, number, plan.steps[index].weight_percent)


def table(plan: CanaryPlan, *, runs: int, seed: int) -> list[str]:
    """Play every act `runs` times; return the rows of a Markdown table."""
    rows = [
        "| candidate | right | wrong | undecided | seconds p50 / p95 | candidate requests p50 / p95 | highest weight |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for act in ACTS:
        played = [play(plan, act, np.random.default_rng((seed, run))) for run in range(runs)]
        counts = Counter(one.decision for one in played)
        right, unsure = counts[act.right] / runs, counts[Decision.INCONCLUSIVE] / runs
        seconds, requests = ([one.seconds for one in played], [one.candidate_requests for one in played])
        weights = Counter(one.max_weight_percent for one in played)
        furthest = ", ".join(f"{weight} %: {count}" for weight, count in sorted(weights.items()))
        rows.append(
            f"| {act.name} | {right:.1%} {act.right} | {1 - right - unsure:.1%} | {unsure:.1%} | {_pair(seconds)} "
            f"| {_pair(requests)} | {furthest} |"
        )
    return rows


def _pair(values: Sequence[float]) -> str:
    p50, p95 = np.quantile(values, [0.5, 0.95], method="inverted_cdf")
    return f"{p50:.0f} / {p95:.0f}"


def _side(draw: float, weight_percent: int) -> Side | None:
    """Choose a side by the canary's weights; None for the stable one, which is not judged."""
    share = weight_percent / 100
    if draw < share:
        return Side.CANDIDATE
    return Side.BASELINE if draw < 2 * share else None


def _requests(traffic: SimulatedTraffic, act: Act, random: np.random.Generator) -> Iterator[tuple[float, _Draw]]:
    """Yield the time of each request, in seconds, and what it becomes on a side; without end."""
    now = 0.0
    while True:
        slow = bursts(random, 1000, act.burst_factor) if act.burst_factor > 1 else np.ones(1000)
        for factor in slow.tolist():
            now += random.exponential(1 / traffic.rate_per_second)
            yield now, _Draw(traffic, act, random, now, factor)


@dataclass(frozen=True)
class _Draw:
    """One request before its side is known."""

    traffic: SimulatedTraffic
    act: Act
    random: np.random.Generator
    now: float
    factor: float

    def __call__(self, side: Side, number: int) -> list[Arrival]:
        act, random = self.act, self.random
        candidate = side is Side.CANDIDATE
        failed = candidate and random.random() < act.error
        several = random.random() < self.traffic.multi_turn_fraction
        share = (act.multi_turn if several else act.single_turn) if candidate else 0.9
        observation = self._observe(side, number, failed=failed)
        first = Arrival(observation, self.now, number)
        if failed:
            return [first]
        label = Label(
            ts=self.now,
            request_id=observation.request_id,
            exact_match=random.random() < share,
            format_failure=False,
            refusal=False,
        )
        return [first, Arrival(observation, self.now, number, label)]

    def _observe(self, side: Side, number: int, *, failed: bool) -> Observation:
        streamed = not failed and self.random.random() < self.traffic.streaming_fraction
        slow = self.factor * (self.act.latency_ratio if side is Side.CANDIDATE else 1.0)
        ttft = MEDIAN_MS * slow * float(np.exp(_SPREAD * self.random.standard_normal()))
        gap = _GAP_MS * slow * float(np.exp(_SPREAD * self.random.standard_normal()))
        return Observation.model_construct(
            ts=self.now,
            request_id=f"{side}-{number}-{self.now}",
            side=side,
            streamed=streamed,
            outcome=Outcome.UPSTREAM_ERROR if failed else Outcome.OK,
            finish_reason="stop",
            ttft_ms=ttft,
            itl_ms=gap,
            total_ms=ttft + 15 * gap,
        )
