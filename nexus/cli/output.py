"""What every command shares: where output goes, JSON or for people, and errors with their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from nexus.chat import ChatError
from nexus.release_run import ReleaseBusyError
from serving.contracts.load import DocumentError
from serving.git_command import GitError
from serving.gitops import GitOpsError
from serving.local.node import NodeError
from serving.release_state import ReleaseHeldError, ReleaseStateError
from serving.settings import UnknownSettingError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BUSY = 5

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout, progress to stderr.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_CODES: dict[type[Exception], int] = {
    DocumentError: EXIT_USAGE,
    UnknownSettingError: EXIT_USAGE,
    ReleaseBusyError: EXIT_BUSY,
    ReleaseHeldError: EXIT_BUSY,
    ReleaseStateError: EXIT_FAILURE,
    NodeError: EXIT_FAILURE,
    ValidationError: EXIT_USAGE,
    GitError: EXIT_FAILURE,
    GitOpsError: EXIT_FAILURE,
    ChatError: EXIT_FAILURE,
    OSError: EXIT_FAILURE,
}


def print_json(value: BaseModel | dict[str, object]) -> None:
    """Print one JSON object and nothing else."""
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2, default=str)
    typer.echo(text)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn errors that a user can mend into a message and an exit code; anything else is a bug and shows its trace."""
    try:
        yield
    except tuple(_CODES) as exc:
        err.print("[bold red]error:[/]", end=" ")
        err.print(str(exc), markup=False, soft_wrap=True)
        code = next(code for kind, code in _CODES.items() if isinstance(exc, kind))
        raise typer.Exit(code) from exc
