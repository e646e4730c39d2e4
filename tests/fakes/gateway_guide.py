"""The gateway guide as data: its examples by section, and its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from nexus.cli.main import app

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "gateway.md"
POLICY_HEAD = "kind: GatewayPolicy\nmetadata: {name: gateway}\nspec:\n"
ROUTE_HEAD = "kind: Route\nmetadata: {name: route}\nspec:\n"

_HEADING = re.compile(r"^#{2,3} (.+)$")
_FENCE = re.compile(r"^```(\w*)$")
_POLICY = "# policy.yaml, spec:\n"
_ROUTE = re.compile(r"# routes/([a-z0-9-]+)\.yaml, spec:\n")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    section: str
    language: str
    text: str


@dataclass
class Example:
    """What one section shows: documents of a policy folder, and others by kind (`Providers`, `Collector`)."""

    policy: str | None = None
    routes: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def blocks(document: Path = GUIDE) -> Iterator[Block]:
    """Read a document's fenced blocks."""
    section, language, lines = "", None, list[str]()
    for line in document.read_text().splitlines():
        fence = _FENCE.match(line)
        if language is None:
            heading = _HEADING.match(line)
            section = heading[1] if heading else section
            language = fence[1] if fence else None
        elif fence:
            yield Block(section, language, "".join(f"{kept}\n" for kept in lines))
            language, lines = None, []
        else:
            lines.append(line)


def examples() -> dict[str, Example]:
    """Return the examples by section.

    Raises:
        ValueError: A YAML block does not say what it is, or a section shows a document twice.
    """
    found: dict[str, Example] = {}
    for block in blocks():
        if block.language == "yaml":
            _add(found.setdefault(block.section, Example()), block)
    return found


def unknown_commands(document: Path) -> list[str]:
    """Return the lines of a document's shell examples that call `nexus` by a command, or option, that there is not.

    Raises:
        ValueError: No line calls it.
    """
    lines = [line for block in blocks(document) if block.language == "bash" for line in block.text.splitlines()]
    calls = [found[0] for line in lines if (found := re.search(r"(?<![\w./-])nexus [^#|)]+", line))]
    if not calls:
        raise ValueError(f"expected examples that call nexus in {document}; got none")
    return [call for call in calls if not _is_known(call.split()[1:])]


def _is_known(words: list[str]) -> bool:
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands.get(words[0]), words[1:]
        if command is None:
            return False
    options = {name for parameter in command.params for name in parameter.opts}
    return {word for word in words if word.startswith("--")} <= options


def table(name: str) -> list[list[str]]:
    """Return the rows of the table that stands between the marks `name` and `/name`, without its head."""
    text = GUIDE.read_text()
    found = re.search(rf"<!-- {name}: [^>]+ -->(.*?)<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"expected the marks of the table {name}; put them back around it")
    rows = [line.strip("|").split("|") for line in found[1].splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in row] for row in rows[2:]]


def _add(example: Example, block: Block) -> None:
    route = _ROUTE.match(block.text)
    if block.text.startswith("# OpenTelemetry Collector\n"):
        example.others["Collector"] = block.text
    elif route is not None:
        _once(route[1] not in example.routes, block)
        example.routes[route[1]] = ROUTE_HEAD + _indented(block.text)
    elif block.text.startswith(_POLICY):
        _once(example.policy is None, block)
        example.policy = POLICY_HEAD + _indented(block.text)
    elif "kind: GatewayPolicy\n" in block.text:
        _once(example.policy is None, block)
        example.policy = block.text
    elif "kind: Providers\n" in block.text:
        example.others["Providers"] = block.text
    else:
        raise ValueError(f"expected the first line of an example to say what it is; got {block.text[:80]!r}")


def _once(holds: bool, block: Block) -> None:
    if not holds:
        raise ValueError(f"expected one document of a kind in the section {block.section!r}; got another")


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
