"""What every command shares: where output goes, JSON or for people, and errors with their exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from pydantic import BaseModel
from rich.console import Console

from nexus.admin import AdminError, AdminOrderError, AdminTokenError
from nexus.chat import ChatError, CredentialError, UnknownModelError
from nexus.client import UnknownReleaseError
from nexus.environments.install import InstallError
from nexus.release_run import ReleaseBusyError
from serving.contracts.load import DocumentError
from serving.git_command import GitError
from serving.local.errors import NodeError
from serving.release_state import ReleaseHeldError, ReleaseStateError
from serving.settings import NexusSettings, SettingsError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BUSY = 5

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to stdout, an error too; progress to stderr.")
]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Failure:
    """What a kind of error is called under `--json`, and the exit code that says it."""

    code: str
    exit_code: int


FAILURES: Final[dict[type[Exception], Failure]] = {
    DocumentError: Failure("document", EXIT_USAGE),
    SettingsError: Failure("setting", EXIT_USAGE),
    ReleaseBusyError: Failure("release-busy", EXIT_BUSY),
    ReleaseHeldError: Failure("release-busy", EXIT_BUSY),
    ReleaseStateError: Failure("release-state", EXIT_FAILURE),
    NodeError: Failure("node", EXIT_FAILURE),
    GitError: Failure("git", EXIT_FAILURE),
    UnknownModelError: Failure("model-not-found", EXIT_USAGE),
    CredentialError: Failure("credential", EXIT_USAGE),
    ChatError: Failure("gateway", EXIT_FAILURE),
    AdminOrderError: Failure("usage", EXIT_USAGE),
    AdminTokenError: Failure("credential", EXIT_USAGE),
    AdminError: Failure("gateway", EXIT_FAILURE),
    InstallError: Failure("install", EXIT_FAILURE),
    UnknownReleaseError: Failure("not-found", EXIT_USAGE),
    FileNotFoundError: Failure("not-found", EXIT_FAILURE),
    OSError: Failure("system", EXIT_FAILURE),
}
"""Errors that a user can mend; the first kind that fits counts. Anything else is a bug and shows its trace."""


def failure_of(error: Exception) -> Failure | None:
    """Say what kind of error it is; None for a bug."""
    return next((failure for kind, failure in FAILURES.items() if isinstance(error, kind)), None)


def print_json(value: BaseModel | dict[str, object]) -> None:
    """Print one JSON object and nothing else."""
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2, default=str)
    typer.echo(text)


def print_home(settings: NexusSettings) -> None:
    """Say which installation a command is about."""
    out.print(f"home      {settings.home}", markup=False, soft_wrap=True)


def print_error(code: str, message: str, *, json: bool) -> None:
    """Say what went wrong: a JSON object on stdout, or a line for people on stderr."""
    if json:
        print_json({"error": {"code": code, "message": message}})
        return
    err.print("[bold red]error:[/]", end=" ")
    err.print(message, markup=False, soft_wrap=True)
