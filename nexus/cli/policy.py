"""Command about gateway policies: check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexus.cli.output import EXIT_USAGE, JsonOption, err, out, print_json
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.load import DocumentError, Problem, dotted, load_document
from serving.contracts.policy_check import policy_doubts
from serving.contracts.policy_folder import ParseCache, read_folder
from serving.contracts.route import Route
from serving.contracts.strict_yaml import YamlFault, YamlPath, read_yaml
from serving.settings import NexusSettings, Profile

policy = typer.Typer(name="policy", help="Check gateway policies.", no_args_is_help=True)

PathArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER|FILE", exists=True, help="Policy folder, or one policy or route document.")
]


@policy.callback()
def about() -> None:
    """Check gateway policies."""


@policy.command()
def check(path: PathArgument, json: JsonOption = False) -> None:
    """Read a policy exactly as the gateway does, and list everything that is wrong or suspicious.

    Exit codes: 0 it can be used (there may be warnings), 2 a document is wrong.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    settings = NexusSettings.load()
    redis = settings.gateway_redis_url is not None or settings.profile is Profile.LOCAL  # whose node starts its own
    try:
        if path.is_dir():
            warnings = _check_folder(path, redis=redis)
        else:
            load_document(path, Route if _kind(path) == "Route" else GatewayPolicy)
    except DocumentError as exc:
        problems = exc.problems
    if json:
        print_json({"ok": not problems, "problems": _rows(problems), "warnings": _rows(warnings)})
    else:
        for problem in problems:
            err.print(f"error: {problem}", markup=False, soft_wrap=True)
        for warning in warnings:
            err.print(f"warning: {warning}", markup=False, soft_wrap=True)
        if not problems:
            out.print(
                f"{path} can be used" + (f", with {len(warnings)} warnings" if warnings else ""),
                markup=False,
                soft_wrap=True,
            )
    raise typer.Exit(EXIT_USAGE if problems else 0)


def _check_folder(folder: Path, *, redis: bool) -> list[Problem]:
    documents = read_folder(folder, ParseCache())
    warnings: list[Problem] = []
    for file, path, message in policy_doubts(documents, redis=redis):
        document = folder / file
        warnings.append(Problem(str(document), _line(document, path), dotted(path), message))
    return warnings


def _kind(file: Path) -> object:
    """Return what the document says that it is; a document that cannot be read is one that says nothing."""
    try:
        data, _ = read_yaml(file.read_bytes())
    except (YamlFault, OSError):
        return None
    return data.get("kind") if isinstance(data, dict) else None


def _line(document: Path, path: YamlPath) -> int:
    """Return the line of a path, or of what stands nearest above it."""
    _, lines = read_yaml(document.read_bytes())
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _rows(problems: list[Problem]) -> list[dict[str, object]]:
    return [{"file": each.file, "line": each.line, "path": each.path, "message": each.message} for each in problems]
