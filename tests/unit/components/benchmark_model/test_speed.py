"""Which requests the speed run sends, in which order, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from components.benchmark_model.engines import Lineup, Served, Subject
from components.benchmark_model.load import Answer, LoadResult
from components.benchmark_model.speed import choose_prompts, measure_speed, requests_at, rotate, summarize
from serving.contracts.data_contract import DataRow, Message
from serving.contracts.release_spec import BenchmarkPlan, EngineSettings
from tests.fakes.scripted_engine import Script, run_engine


def rows(count: int) -> list[DataRow]:
    return [
        DataRow(id=str(n), intent="greet", messages=(Message(role="user", content=f"q{n}"),), answer="a")
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("concurrency", "asked", "sent"), [(1, 32, 8), (4, 32, 16), (16, 32, 32), (16, 200, 64), (16, 8, 16), (64, 32, 64)]
)
def test_requests_grow_with_the_level(concurrency: int, asked: int, sent: int) -> None:
    """At least 8 and one a connection, at most four a connection."""
    assert requests_at(BenchmarkPlan(requests_per_level=asked), concurrency) == sent


def test_prompts_begin_with_rows_that_nobody_was_asked() -> None:
    """Rows of the quality run come last, and all rows come before one comes again."""
    chosen = [prompt.messages[0]["content"] for prompt in choose_prompts(rows(5), 3, 7)]
    assert chosen == ["q3", "q4", "q0", "q1", "q2", "q3", "q4"]


def test_every_model_is_first_and_last() -> None:
    """The order rotates and turns round, so drift of the machine favours nobody."""
    assert [rotate("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["b", "c", "a"],
        ["a", "c", "b"],
    ]
    assert rotate([], 3) == []


def test_rounds_are_pooled_and_errors_left_out_of_times() -> None:
    """Quantiles come from all good answers, tokens/s from all tokens over all wall time."""
    good = [Answer(ttft_seconds=n / 10, itl_seconds=n / 100, total_seconds=n, output_tokens=10) for n in range(1, 12)]
    level = summarize(4, [LoadResult(tuple(good), 10.0), LoadResult((good[0], Answer(error="lost")), 2.0)])
    assert (level.requests, level.errors) == (13, 1)
    assert level.ttft_p50_ms == pytest.approx(550)
    assert level.itl_p90_ms == pytest.approx(99)
    assert level.output_tokens_per_second == pytest.approx(120 / 12)
    assert level.output_tokens_per_second_rounds == pytest.approx((11.0, 5.0))


def test_models_take_turns_and_a_dead_one_leaves(tmp_path: Path) -> None:
    """Blocks alternate between the models with the same prompts; one that answers nothing is taken out with its log."""
    scripts = {"a": Script(), "b": Script(), "dead": Script(dies_after=0)}
    said: list[str] = []
    (tmp_path / "dead.log").write_text("RuntimeError: no kernel\n")
    with ExitStack() as stack:
        lineup = Lineup(
            served={
                name: Served(
                    Subject(name, tmp_path, EngineSettings(), "model", tmp_path / f"{name}.log"),
                    stack.enter_context(run_engine(script)).url,
                    1.0,
                )
                for name, script in scripts.items()
            }
        )
        plan = BenchmarkPlan(concurrency=(1, 2), requests_per_level=8, rounds=2)
        found = asyncio.run(measure_speed(lineup, plan, rows(5), say=said.append))
    assert {name: [level.concurrency for level in levels] for name, levels in found.items()} == {
        "a": [1, 2],
        "b": [1, 2],
    }
    assert [level.requests for level in found["a"]] == [16, 16]
    assert scripts["a"].asked == scripts["b"].asked
    assert lineup.unserved["dead"].endswith("RuntimeError: no kernel")
    assert lineup.lost == {"dead"}
    assert any(line.startswith("speed round 2/2, 2 concurrent: b ") for line in said)
