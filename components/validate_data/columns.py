"""Columns that the rules look at, computed from the rows; none of them holds text that could be personal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from components.validate_data.personal_data import find_personal_data, mask, normalise
from serving.contracts.data_contract import DataRow, PersonalDataKind, Split
from serving.data_rows import scan_rows, split_file

ROW: Final = "row"
_EXCERPT_CHARACTERS = 90
_PROBLEM_CHARACTERS = 160
_TOKEN = re.compile(r"\d|[^\W\d_]+|[^\w\s]|_")

Value = str | int | None
Conversation = tuple[tuple[str, str], ...]
KeyT = TypeVar("KeyT", str, Conversation)


@dataclass(frozen=True)
class SplitColumns:
    """Rows of one split as columns of equal length.

    Attributes:
        split: Which one.
        values: Column name to values; `row` names file and line.
        excerpts: Row name to the masked beginning of its last question, or of the line where that is no row.
    """

    split: Split
    values: Mapping[str, list[Value]]
    excerpts: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Number of lines, unreadable ones included."""
        return len(self.values[ROW])


@dataclass
class Seen:
    """Conversations of the training and calibration sets, by the first row that holds them."""

    trained: dict[Conversation, str] = field(default_factory=dict)


COLUMNS: Final = (
    ROW,
    "format_fault",
    "turns_fault",
    "id_repeats",
    "intent",
    "prompt_tokens",
    "answer_tokens",
    "repeats",
    "leaks_from",
)


def personal_column(kind: PersonalDataKind) -> str:
    """Return the column that holds masked findings of one kind."""
    return kind.value.replace("-", "_")


def count_tokens(text: str) -> int:
    """Count words, digits and signs: the contract's own cheap measure, close to a small tokenizer's."""
    return sum(1 for _ in _TOKEN.finditer(text))


def compute_columns(data: Path, split: Split, seen: Seen) -> SplitColumns:
    """Read one split and compute its columns.

    Args:
        data: Folder of `<split>.jsonl` files.
        split: Which one.
        seen: Filled by training and calibration sets; read by the others, so those come later.

    Raises:
        DataRowsError: The file cannot be read.
    """
    values: dict[str, list[Value]] = {name: [] for name in (*COLUMNS, *map(personal_column, PersonalDataKind))}
    excerpts: dict[str, str] = {}
    ids: dict[str, str] = {}
    own: dict[Conversation, str] = {}
    path = split_file(data, split)
    for line in scan_rows(path):
        name = f"{path.name}:{line.number}"
        excerpts[name] = _cut(mask(line.row.messages[-1].content if line.row else line.beginning))
        record: dict[str, Value]
        if line.row is None:
            record = {"format_fault": _cut(mask(line.problem), _PROBLEM_CHARACTERS)}
        else:
            record = _describe(line.row)
            record["id_repeats"] = _first(ids, line.row.id, name)
            conversation = _conversation(line.row)
            record["repeats"] = _first(own, conversation, name)
            if split in (Split.TRAIN, Split.CALIBRATION):
                for taught in _taught(conversation):
                    seen.trained.setdefault(taught, name)
            else:
                record["leaks_from"] = seen.trained.get(conversation)
        for column, column_values in values.items():
            column_values.append(name if column == ROW else record.get(column))
    return SplitColumns(split, values, excerpts)


def _describe(row: DataRow) -> dict[str, Value]:
    roles = [message.role for message in row.messages if message.role != "system"]
    expected = ["user", "assistant"] * len(roles)
    fault = None
    if len(roles) % 2 == 0 or roles != expected[: len(roles)]:
        got = _cut(", ".join(roles)) or "no turn"
        fault = f"expected user and assistant in turn, ending with user; got {got}"
    record: dict[str, Value] = {
        "turns_fault": fault,
        "intent": row.intent,
        "prompt_tokens": sum(count_tokens(message.content) for message in row.messages),
        "answer_tokens": count_tokens(row.answer),
    }
    for text in (*(message.content for message in row.messages), row.answer, row.id):
        plain = normalise(text)
        for finding in find_personal_data(plain):
            record.setdefault(personal_column(finding.kind), mask(plain[finding.start : finding.end]))
    return record


def _first(known: dict[KeyT, str], key: KeyT, name: str) -> str | None:
    """Remember a key's first row; return that row for every later one."""
    first = known.setdefault(key, name)
    return None if first == name else first


def _conversation(row: DataRow) -> Conversation:
    return tuple((message.role, _plain(message.content)) for message in row.messages)


def _taught(whole: Conversation) -> Iterator[Conversation]:
    """Yield what training teaches an answer to: the conversation up to each of its questions."""
    for end, (role, _) in enumerate(whole, 1):
        if role == "user":
            yield whole[:end]


def _plain(text: str) -> str:
    return " ".join(normalise(text).casefold().split())


def _cut(text: str, characters: int = _EXCERPT_CHARACTERS) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
