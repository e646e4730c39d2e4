"""Read documents from YAML or JSON text; every problem is reported at once with file, line and path.

PyYAML is the one library besides pydantic that this package imports: only its node tree knows line numbers.
What YAML means here is narrower than YAML 1.1: see `strict_yaml`.
Types are never guessed: `"5"` is no number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.contracts.strict_yaml import Lines, YamlFault, YamlPath, read_yaml

DocumentT = TypeVar("DocumentT", bound=BaseModel)

MAX_DOCUMENT_BYTES = 1024 * 1024
"""Larger than any document of ours (the longest has some 10 kB); bounds what a hostile file makes us hold."""

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a document.

    `line` counts from 1, and is 0 where the file could not be read; `path` is dotted, empty for the whole document.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}{line}: {where}{self.message}"


class DocumentError(Exception):
    """A document was refused; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def load_document(path: Path, model: type[DocumentT]) -> DocumentT:
    """Read one document from a file.

    Raises:
        DocumentError: The file cannot be read, is no YAML, or does not fit the model.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as exc:  # ValueError: the path holds a null character
        reason = getattr(exc, "strerror", None) or str(exc)
        hint = ": name the document's file" if isinstance(exc, FileNotFoundError | IsADirectoryError) else ""
        raise DocumentError([Problem(str(path), 0, "", f"expected a readable file; got: {reason}{hint}")]) from exc
    return parse_document(raw, model, source=str(path))


def parse_document(raw: bytes | str, model: type[DocumentT], *, source: str) -> DocumentT:
    """Parse one document; `source` is the name that stands in error messages.

    Raises:
        DocumentError: The text is no YAML, or does not fit the model; all problems are listed.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise DocumentError([Problem(source, 1, "", f"expected at most {MAX_DOCUMENT_BYTES} bytes; got more")])
    try:
        data, lines = read_yaml(raw)
    except YamlFault as exc:
        raise DocumentError([Problem(source, p.line, dotted(p.path), p.message) for p in exc.places]) from exc
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as exc:
        problems = [_problem(source, lines, error["loc"], error["msg"], error.get("input")) for error in exc.errors()]
        raise DocumentError(sorted(problems, key=lambda problem: problem.line)) from exc


def dotted(path: YamlPath) -> str:
    """Write a path as people do, such as `spec.steps[1].weight_percent`; odd characters are escaped."""
    out = ""
    for part in path:
        text = f"[{part}]" if isinstance(part, int) else part if part.isprintable() else ascii(part)[1:-1]
        out += f".{text}" if out and not isinstance(part, int) else text
    return out


def _problem(source: str, lines: Lines, loc: YamlPath, message: str, value: object) -> Problem:
    known = loc
    while known and known not in lines:
        known = known[:-1]
    text = message.removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    if "extra inputs" in text:
        text = "unknown key; remove it or correct its spelling"
    elif "field required" in text:
        text = "expected this key; it is missing"
    elif isinstance(value, str | int | float | bool):
        text = f"{text}; got {_shown(value)}"
    elif value is None:
        text = f"{text}; got nothing"
    return Problem(source, lines.get(known, 1), dotted(loc), text)


def _shown(value: str | float) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
