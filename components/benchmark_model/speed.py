"""Speed: the same requests to every model, in rounds that alternate between the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from components.benchmark_model.engines import Lineup, Served
from components.benchmark_model.load import LoadResult, Prompt, run_level
from serving.contracts.benchmark_report import SpeedLevel
from serving.contracts.data_contract import DataRow
from serving.contracts.release_spec import BenchmarkPlan
from serving.wording import number

OUTPUT_TOKENS = 32
"""Length of every answer of the speed run; twice the median right answer, so that decoding dominates."""

_REQUESTS_PER_CONNECTION = 4
_FEWEST_REQUESTS = 8

_WARM_UP = 2  # requests a block that are not counted: the engine has been idle while the others were measured

Say = Callable[[str], None]


def requests_at(plan: BenchmarkPlan, concurrency: int) -> int:
    """Return how many requests one round sends at a level.

    Low levels are cut to 4 requests a connection, at least 8: one connection takes as long for 8 requests as sixteen
    do for 64, and the highest level decides.
    """
    return max(concurrency, _FEWEST_REQUESTS, min(plan.requests_per_level, _REQUESTS_PER_CONNECTION * concurrency))


def choose_prompts(rows: Sequence[DataRow], asked_before: int, count: int) -> list[Prompt]:
    """Take prompts in turn, first those after the `asked_before` rows of the quality run, whose prefixes are cached.

    Every model gets the same list in the same order, so a repeated prompt flatters none of them.
    """
    ordered = [*rows[asked_before:], *rows[:asked_before]]
    return [
        Prompt(tuple({"role": str(message.role), "content": message.content} for message in row.messages))
        for row in (ordered[index % len(ordered)] for index in range(count))
    ]


def rotate(names: Sequence[str], turn: int) -> list[str]:
    """Return the names beginning with another one each turn; every second turn runs backwards against drift."""
    if not names:
        return []
    start = turn // 2 % len(names)
    order = [*names[start:], *names[:start]]
    return order[::-1] if turn % 2 else order


async def measure_speed(
    lineup: Lineup, plan: BenchmarkPlan, rows: Sequence[DataRow], *, say: Say
) -> dict[str, tuple[SpeedLevel, ...]]:
    """Measure every served model at every level, interleaved.

    Args:
        lineup: Served models; one that answers no request of a level is taken out.
        plan: Levels, requests and rounds.
        rows: Held-out rows, at least one.
        say: Told of the progress.

    Returns:
        Levels of each model that answered, in the plan's order.
    """
    results: dict[tuple[str, int], list[LoadResult]] = {}
    total = sum(_WARM_UP + requests_at(plan, level) for level in plan.concurrency) * plan.rounds
    prompts = iter(choose_prompts(rows, min(plan.quality_rows, len(rows) - 1), total))
    turn = 0
    for round_number in range(1, plan.rounds + 1):
        for level in plan.concurrency:
            block = [next(prompts) for _ in range(_WARM_UP + requests_at(plan, level))]
            for name in rotate(list(lineup.served), turn):
                result = await _measure_block(lineup.served[name], block, level)
                if all(answer.error for answer in result.answers):
                    what = f"answered none of {len(result.answers)} requests at {level} concurrent"
                    lineup.lose(name, what, str(result.answers[0].error))
                    say(f"{name}: stopped answering")
                    continue
                results.setdefault((name, level), []).append(result)
                rate = number(_rate([result]))
                say(f"speed round {round_number}/{plan.rounds}, {level} concurrent: {name} {rate} tokens/s")
            turn += 1
    return {name: tuple(summarize(level, results[name, level]) for level in plan.concurrency) for name in lineup.served}


def summarize(concurrency: int, rounds: Sequence[LoadResult]) -> SpeedLevel:
    """Pool one level's rounds: quantiles over all requests, tokens over all wall time.

    Args:
        concurrency: The level.
        rounds: At least one, with at least one answer without error each.
    """
    answers = [answer for result in rounds for answer in result.answers]
    good = [answer for answer in answers if answer.error is None]
    ttft_p50, ttft_p90 = _quantiles_ms([answer.ttft_seconds for answer in good])
    itl_p50, itl_p90 = _quantiles_ms([answer.itl_seconds for answer in good])
    e2e_p50, e2e_p90 = _quantiles_ms([answer.total_seconds for answer in good])
    return SpeedLevel(
        concurrency=concurrency,
        requests=len(answers),
        errors=len(answers) - len(good),
        ttft_p50_ms=ttft_p50,
        ttft_p90_ms=ttft_p90,
        itl_p50_ms=itl_p50,
        itl_p90_ms=itl_p90,
        e2e_p50_ms=e2e_p50,
        e2e_p90_ms=e2e_p90,
        output_tokens_per_second=_rate(rounds),
        output_tokens_per_second_rounds=tuple(_rate([result]) for result in rounds),
    )


async def _measure_block(served: Served, block: Sequence[Prompt], concurrency: int) -> LoadResult:
    """Measure one model at one level once; the warm-up's answers are thrown away."""
    url, model = served.url, served.subject.served_name
    await run_level(url, model, block[:_WARM_UP], concurrency=_WARM_UP, output_tokens=OUTPUT_TOKENS)
    return await run_level(url, model, block[_WARM_UP:], concurrency=concurrency, output_tokens=OUTPUT_TOKENS)


def _rate(rounds: Sequence[LoadResult]) -> float:
    tokens = sum(answer.output_tokens for result in rounds for answer in result.answers)
    return tokens / sum(result.wall_seconds for result in rounds)


def _quantiles_ms(seconds: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p90 in milliseconds, linearly interpolated; at least one value is needed."""
    p50, p90 = np.quantile(np.asarray(seconds), [0.5, 0.9]) * 1000
    return float(p50), float(p90)
