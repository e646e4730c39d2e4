"""The load generator against an engine that does what its script says."""

from __future__ import annotations

import asyncio
import time

import pytest

from components.benchmark_model.load import LoadResult, Prompt, run_level
from tests.fakes.scripted_engine import Script, run_engine


def prompts(count: int) -> list[Prompt]:
    return [Prompt(({"role": "user", "content": f"question {number}"},)) for number in range(count)]


def run(script: Script, *, requests: int = 3, concurrency: int = 1, output_tokens: int = 4) -> LoadResult:
    with run_engine(script) as engine:
        return asyncio.run(
            run_level(engine.url, "model", prompts(requests), concurrency=concurrency, output_tokens=output_tokens)
        )


def test_every_prompt_is_sent_once_and_in_order() -> None:
    """One connection asks one question after the other, for answers of the exact length."""
    script = Script()
    result = run(script)
    assert [body["messages"][0]["content"] for body in script.asked] == ["question 0", "question 1", "question 2"]
    assert {(body["max_tokens"], body["min_tokens"], body["ignore_eos"]) for body in script.asked} == {(4, 4, True)}
    assert [(answer.error, answer.output_tokens) for answer in result.answers] == [(None, 4)] * 3


def test_times_are_those_of_the_stream() -> None:
    """First token, mean gap and end add up, and the wall time covers all answers."""
    result = run(Script(token_seconds=0.01), requests=2)
    for answer in result.answers:
        assert answer.ttft_seconds >= 0.01
        assert answer.itl_seconds >= 0.009
        assert answer.total_seconds >= answer.ttft_seconds + 3 * answer.itl_seconds
    assert result.wall_seconds >= sum(answer.total_seconds for answer in result.answers)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_so_many_requests_are_in_flight(concurrency: int) -> None:
    """No more than asked for, and no fewer while prompts are left."""
    script = Script(token_seconds=0.002)
    run(script, requests=12, concurrency=concurrency)
    assert script.most_in_flight == concurrency


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(status=500), "expected status 200; got 500"),
        (Script(cuts_streams=True), "expected a stream that ends with [DONE]"),
        (Script(dies_after=0), "Disconnected"),
    ],
)
def test_failures_are_counted_with_their_reason(script: Script, words: str) -> None:
    """An error status, a stream that breaks off and a lost connection are answers with an error, never an exception."""
    result = run(script, requests=2)
    assert len(result.answers) == 2
    assert all(words in str(answer.error) for answer in result.answers)


def test_nobody_listens() -> None:
    """A refused connection is an error of each request, found at once."""
    started = time.monotonic()
    result = asyncio.run(run_level("http://127.0.0.1:1", "m", prompts(2), concurrency=2, output_tokens=4))
    assert all(answer.error for answer in result.answers)
    assert time.monotonic() - started < 5
