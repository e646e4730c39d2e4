"""Rows of a `<split>.jsonl` file: read with every fault named by file and line, written in one normal form."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serving.contracts.data_contract import DataRow, Split
from serving.files import write_atomic

MAX_LINE_BYTES = 1 << 20
"""A longer line is refused before it is parsed; 4,000 characters a message leave room for 60 turns."""
MAX_PROBLEMS = 20
"""Problems that an error lists; the rest is counted."""
_BEGINNING_BYTES = 400
"""Of a line that is no row, and characters of a key it names; who shows them masks first and cuts then."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class DataRowsError(Exception):
    """A data file cannot be read, or lines of it are no rows; `problems` names file and line of each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = len(problems) - MAX_PROBLEMS
        super().__init__("\n".join(problems[:MAX_PROBLEMS]) + (f"\nand {more} more" if more > 0 else ""))


@dataclass(frozen=True)
class NumberedLine:
    """One line of a file: the row it holds, or what is wrong with it and how it begins. `number` counts from 1."""

    number: int
    row: DataRow | None = None
    problem: str = ""
    beginning: str = ""


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
                    _skip_line(file, raw)
                    yield _fault(number, raw, f"expected a line of at most {MAX_LINE_BYTES} bytes; got a longer one")
                else:
                    yield _parse(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)
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


def _skip_line(file: BinaryIO, raw: bytes) -> None:
    """Read on to the end of a line of which a part was read, holding no more of it than that."""
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(MAX_LINE_BYTES)


def _parse(number: int, raw: bytes) -> NumberedLine:
    try:
        return NumberedLine(number, DataRow.model_validate_json(raw.decode()))
    except UnicodeDecodeError as exc:
        return _fault(number, raw, f"expected UTF-8; got {exc.reason} at byte {exc.start}")
    except ValidationError as exc:
        return _fault(number, raw, "; ".join(_describe(error) for error in exc.errors(include_url=False)[:3]))


def _fault(number: int, raw: bytes, problem: str) -> NumberedLine:
    """Name a fault with the beginning of its line, as a person reads it: escapes resolved, nothing invisible."""
    text = raw[:_BEGINNING_BYTES].decode(errors="replace")
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    return NumberedLine(number, None, problem, "".join(char for char in text if char.isprintable()))


def _describe(error: ErrorDetails) -> str:
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "json_invalid":
        return f"expected one JSON object a line; got {message}"
    where = ".".join(str(part) for part in error["loc"])[:_BEGINNING_BYTES]
    return f"{where}: {message}" if where else message
