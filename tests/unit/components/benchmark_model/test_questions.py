"""Rows are counted by the engine's own tokenizer and chat template."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from components.benchmark_model.questions import NoRowsError, read_rows, tokenize_rows
from serving.contracts.data_contract import DataRow, Message
from tests.fakes.scripted_engine import Script, run_engine


def row(question: str, answer: str) -> DataRow:
    return DataRow(id=question, intent="greet", messages=(Message(role="user", content=question),), answer=answer)


def test_rows_that_leave_no_room_for_the_longest_answer_do_not_fit() -> None:
    """Prompt, longest answer of the set and end token must fit the window together."""
    rows = [row("one two", "a b c"), row("one two three four five", "a")]
    with run_engine(Script(window_tokens=8)) as engine:
        questions = asyncio.run(tokenize_rows(engine.url, "model", rows))
    assert [(len(one.prompt_tokens), len(one.answer_tokens), one.fits) for one in questions] == [
        (2, 3, True),
        (5, 1, False),
    ]


def test_an_engine_that_is_gone_is_an_error() -> None:
    """The caller takes the model out."""
    with pytest.raises(ExceptionGroup) as group:
        asyncio.run(tokenize_rows("http://127.0.0.1:1", "model", [row("q", "a")]))
    assert isinstance(group.value.exceptions[0], aiohttp.ClientError)


def test_rows_are_read_and_an_empty_set_is_refused(tmp_path: Path) -> None:
    """A held-out set without rows can judge nothing."""
    (tmp_path / "evaluation.jsonl").write_text(row("q", "a").model_dump_json() + "\n")
    assert [one.id for one in read_rows(tmp_path)] == ["q"]
    (tmp_path / "evaluation.jsonl").write_text("")
    with pytest.raises(NoRowsError, match="got none"):
        read_rows(tmp_path)
