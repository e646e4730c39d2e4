"""Held-out rows as the engine counts them: its own chat template renders the prompt, its own tokenizer the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from serving import data_rows
from serving.contracts.data_contract import DataRow, Split
from serving.data_rows import split_file

_IN_FLIGHT = 8  # tokenizing 300 rows takes 0.4 s then; the engine does it on one core
_REQUEST_SECONDS = 60.0


class NoRowsError(Exception):
    """The held-out set has no rows."""


@dataclass(frozen=True)
class Question:
    """One row and its tokens as the engine counts them.

    `fits` is False when the prompt and the longest answer of the set do not fit the engine's context window together.
    """

    row: DataRow
    prompt_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    window_tokens: int
    fits: bool = True


def read_rows(data: Path) -> list[DataRow]:
    """Read the held-out set.

    Args:
        data: Folder with `evaluation.jsonl`.

    Raises:
        NoRowsError: It is empty.
        DataRowsError: It cannot be read, or lines of it are no rows.
    """
    path = split_file(data, Split.EVALUATION)
    rows = data_rows.read_rows(path)
    if not rows:
        raise NoRowsError(f"expected held-out rows in {path}; got none: run the data steps again")
    return rows


async def tokenize_rows(url: str, model: str, rows: Sequence[DataRow]) -> list[Question]:
    """Tokenize rows by an engine's `/tokenize`, so that serving arguments such as a chat template count.

    Args:
        url: Engine's address without path.
        model: Served model name.
        rows: At least one.

    Raises:
        aiohttp.ClientError: The engine refused or went away.
        TimeoutError: It took longer than a minute for one row.
    """
    gate = asyncio.Semaphore(_IN_FLIGHT)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS)) as session:

        async def ask(body: dict[str, Any]) -> dict[str, Any]:
            async with gate, session.post(f"{url}/tokenize", json={"model": model, **body}) as response:
                response.raise_for_status()
                answer: dict[str, Any] = await response.json()
                return answer

        async def question(row: DataRow) -> Question:
            messages = [message.model_dump() for message in row.messages]
            prompt = await ask({"messages": messages, "add_generation_prompt": True})
            answer = await ask({"prompt": row.answer, "add_special_tokens": False})
            return Question(row, tuple(prompt["tokens"]), tuple(answer["tokens"]), prompt["max_model_len"])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(question(row)) for row in rows]
    questions = [task.result() for task in tasks]
    longest = max(len(question.answer_tokens) for question in questions)
    return [
        replace(question, fits=len(question.prompt_tokens) + longest + 1 <= question.window_tokens)
        for question in questions
    ]
