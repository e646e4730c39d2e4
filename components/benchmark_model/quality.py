"""Quality: every model answers the same held-out rows, through lm-evaluation-harness and real requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import aiohttp

from components.benchmark_model.engines import Lineup, Served
from components.benchmark_model.measurements import RowOutcome
from components.benchmark_model.questions import Question, tokenize_rows
from serving.contracts.data_contract import DataRow

_MODELS_AT_ONCE = 2  # one engine uses one core; order and speed do not matter here
_IN_FLIGHT = 16
_SAY_EVERY_ROWS = 60

Say = Callable[[str], None]


class EvaluateRows(Protocol):
    """`harness.evaluate_rows`."""

    def __call__(
        self, url: str, model: str, questions: Sequence[Question], *, concurrency: int, on_row: Callable[[], None]
    ) -> tuple[RowOutcome, ...]:
        """Ask one engine every question."""


def measure_quality(
    lineup: Lineup, rows: Sequence[DataRow], *, log_path: Path, say: Say
) -> dict[str, tuple[RowOutcome, ...]]:
    """Ask every served model all rows.

    Args:
        lineup: Served models; one that stops answering is taken out.
        rows: Held-out rows, at least one.
        log_path: File that gets the harness's own output.
        say: Told of the progress.

    Returns:
        Outcomes of each model that answered all rows, in the rows' order.
    """
    from components.benchmark_model.harness import evaluate_rows  # noqa: PLC0415 - seconds of imports

    results: dict[str, tuple[RowOutcome, ...]] = {}
    with (
        _harness_output(log_path),
        ThreadPoolExecutor(_MODELS_AT_ONCE, thread_name_prefix="quality") as pool,
    ):
        runs = {name: pool.submit(_ask_all, evaluate_rows, served, rows, say) for name, served in lineup.served.items()}
        for name, run in runs.items():
            try:
                results[name] = run.result()
            except* (aiohttp.ClientError, ConnectionError, TimeoutError) as group:
                reason = "; ".join(dict.fromkeys(f"{type(exc).__name__}: {exc}"[:300] for exc in _leaves(group)))
                lineup.lose(name, "stopped answering during the quality run", reason)
                say(f"{name}: stopped answering")
    return results


def _ask_all(evaluate_rows: EvaluateRows, served: Served, rows: Sequence[DataRow], say: Say) -> tuple[RowOutcome, ...]:
    name, model = served.subject.name, served.subject.served_name
    questions = asyncio.run(tokenize_rows(served.url, model, rows))
    unfit = sum(not question.fits for question in questions)
    if unfit:
        window = questions[0].window_tokens
        say(f"{name}: {unfit} of {len(rows)} rows do not fit the window of {window} tokens and count as wrong")
    done = 0

    def on_row() -> None:
        nonlocal done
        done += 1
        if done % _SAY_EVERY_ROWS == 0 or done == len(rows) - unfit:
            say(f"{name}: quality {done}/{len(rows)}")

    return evaluate_rows(served.url, model, questions, concurrency=_IN_FLIGHT, on_row=on_row)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


@contextlib.contextmanager
def _harness_output(path: Path) -> Iterator[None]:
    """Send the harness's progress bars and log lines to a file; ours go to the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("lm_eval")
    with path.open("a") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(message)s"))
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
