"""Rows of a `<split>.jsonl` file: read with every fault named by file and line, written in one normal form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from serving.contracts.data_contract import DataRow, Split
from serving.files import write_atomic

MAX_LINE_BYTES = 1 << 20
"""A longer line is refused before it is parsed; 4,000 characters a message leave room for 60 turns."""
MAX_PROBLEMS = 20
"""Problems that an error lists; the rest is counted."""


class DataRowsError(Exception):
    """A data file cannot be read, or lines of it are no rows; `problems` names file and line of each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = len(problems) - MAX_PROBLEMS
        super().__init__("\n".join(problems[:MAX_PROBLEMS]) + (f"\nand {more} more" if more > 0 else ""))


@dataclass(frozen=True)
class NumberedLine:
    """One line of a file: the row it holds, or what is wrong with it. `number` counts from 1."""

    number: int
    row: DataRow | None
    problem: str | None


def split_file(folder: Path, split: Split) -> Path:
    """Return where a split stands in a data folder."""
    return folder / f"{split}.jsonl"


def scan_rows(path: Path) -> Iterator[NumberedLine]:
    """Yield every line of a file as a row or as a problem that names neither file nor line.

    Raises:
        DataRowsError: The file cannot be opened or read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if len(raw) > MAX_LINE_BYTES:
                    problem = f"expected a line of at most {MAX_LINE_BYTES} bytes; got a longer one"
                    yield NumberedLine(number, None, problem)
                    return
                yield _parse(number, raw)
    except OSError as exc:
        action = "name a folder that holds it" if isinstance(exc, FileNotFoundError) else "check its permissions"
        raise DataRowsError([f"{path}: cannot be read: {exc.strerror or exc}; {action}"]) from exc


def read_rows(path: Path) -> list[DataRow]:
    """Read a whole file.

    Raises:
        DataRowsError: It cannot be read, or some lines are no rows; all of them are listed.
    """
    rows: list[DataRow] = []
    problems: list[str] = []
    for line in scan_rows(path):
        if line.row is None:
            problems.append(f"{path}:{line.number}: {line.problem}")
        else:
            rows.append(line.row)
    if problems:
        raise DataRowsError(problems)
    return rows


def write_rows(path: Path, rows: Iterable[DataRow]) -> None:
    """Write rows in the normal form: one compact JSON object a line, keys in the model's order."""
    write_atomic(path, "".join(f"{row.model_dump_json()}\n" for row in rows))


def _parse(number: int, raw: bytes) -> NumberedLine:
    try:
        return NumberedLine(number, DataRow.model_validate(json.loads(raw)), None)
    except UnicodeDecodeError as exc:
        problem = f"expected UTF-8; got {exc.reason} at byte {exc.start}"
    except (json.JSONDecodeError, RecursionError) as exc:
        text = exc.msg if isinstance(exc, json.JSONDecodeError) else "nested too deeply"
        problem = f"expected one JSON object a line; this is none: {text}"
    except ValidationError as exc:
        problem = "; ".join(_describe(error["loc"], error["msg"]) for error in exc.errors()[:3])
    return NumberedLine(number, None, problem)


def _describe(loc: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in loc)
    return f"{where}: {message[0].lower()}{message[1:]}" if where else f"{message[0].lower()}{message[1:]}"
