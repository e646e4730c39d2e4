"""Read documents from YAML or JSON text; every problem is reported at once with file, line and path.

PyYAML is the one library besides pydantic that this package imports: only its node tree knows line numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

DocumentT = TypeVar("DocumentT", bound=BaseModel)

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Larger than any document of ours; bounds what a hostile file makes us hold."""

_MAX_NODES = 200_000
_MAX_DEPTH = 64
_JSON_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a document. `line` counts from 1; `path` is dotted, empty for the whole document."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return (
            f"{self.file}:{self.line}:{where} {self.message}".replace(": at", " at", 1)
            if where
            else (f"{self.file}:{self.line}: {self.message}")
        )


class DocumentError(Exception):
    """A document was refused; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's surprises: only true/false are booleans, and dates stay text."""


_StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp", ":merge", ":value"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "tf":
    _StrictLoader.yaml_implicit_resolvers.setdefault(_first, []).insert(
        0, ("tag:yaml.org,2002:bool", __import__("re").compile(r"^(?:true|false)$"))
    )


def load_document(path: Path, model: type[DocumentT]) -> DocumentT:
    """Read one document from a file.

    Raises:
        DocumentError: The file cannot be read, is no YAML, or does not fit the model.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as exc:
        raise DocumentError([Problem(str(path), 1, "", f"cannot be read: {exc.strerror or exc}")]) from exc
    return parse_document(raw, model, source=str(path))


def parse_document(raw: bytes | str, model: type[DocumentT], *, source: str) -> DocumentT:
    """Parse one document; `source` is the name that stands in error messages.

    Raises:
        DocumentError: The text is no YAML, or does not fit the model; all problems are listed.
    """
    data, lines = _parse_yaml(raw, source)
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        problems = [_problem(source, lines, error["loc"], error["msg"], error.get("input")) for error in exc.errors()]
        raise DocumentError(sorted(problems, key=lambda problem: problem.line)) from exc


def _parse_yaml(raw: bytes | str, source: str) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise DocumentError([Problem(source, 1, "", f"expected at most {MAX_DOCUMENT_BYTES} bytes; got more")])
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError as exc:
        raise DocumentError([Problem(source, 1, "", f"expected UTF-8; got {exc.reason} at byte {exc.start}")]) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        raise DocumentError([Problem(source, line, "", f"is no YAML: {exc.problem or exc.context}")]) from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise DocumentError([Problem(source, 1, "", f"is no YAML: {exc}")]) from exc
    if node is None:
        raise DocumentError([Problem(source, 1, "", "expected a document; got an empty file")])
    lines: dict[tuple[str | int, ...], int] = {}
    problems = list(_check(node, (), lines, source, [0]))
    if problems:
        raise DocumentError(problems)
    return _construct(node), lines


def _check(
    node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], source: str, seen: list[int]
) -> Iterator[Problem]:
    """Record each node's line; refuse duplicate keys, tags beyond JSON's, and bombs of depth or aliases."""
    seen[0] += 1
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if seen[0] > _MAX_NODES or len(path) > _MAX_DEPTH:
        if seen[0] <= _MAX_NODES + 1:
            yield Problem(
                source, line, _dotted(path), f"expected at most {_MAX_NODES} nodes and depth {_MAX_DEPTH}; got more"
            )
        return
    if node.tag not in _JSON_TAGS:
        yield Problem(source, line, _dotted(path), f"expected plain YAML; got the tag {node.tag!r}")
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in keys:
                yield Problem(
                    source, key_node.start_mark.line + 1, _dotted((*path, key)), "expected each key once; got it again"
                )
            keys.add(key)
            lines[(*path, key)] = key_node.start_mark.line + 1
            yield from _check(value_node, (*path, key), lines, source, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _check(item, (*path, index), lines, source, seen)


def _construct(node: yaml.Node) -> Any:
    loader = _StrictLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _problem(
    source: str, lines: dict[tuple[str | int, ...], int], loc: tuple[str | int, ...], message: str, value: object
) -> Problem:
    known = loc
    while known and known not in lines:
        known = known[:-1]
    line = lines.get(known, 1)
    text = message[0].lower() + message[1:]
    if "extra inputs" in text:
        text = "unknown key; remove it or correct its spelling"
    elif "field required" in text:
        text = "expected this key; it is missing"
    elif isinstance(value, str | int | float | bool):
        text = f"{text}; got {str(value)[:80]!r}"
    return Problem(source, line, _dotted(loc), text)


def _dotted(path: tuple[str | int, ...]) -> str:
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out
