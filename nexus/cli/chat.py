"""Command that asks a served model through the gateway."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from nexus.cli.output import JsonOption, err, out, print_json, reported_errors
from nexus.client import NexusClient

ModelArgument = Annotated[str, typer.Argument(help="Served model name.")]
QuestionArgument = Annotated[
    str | None, typer.Argument(help="Question; without it, a conversation is read line by line.")
]
UserOption = Annotated[str, typer.Option(help="Who asks; one user always meets the same side of a release.")]


def chat(
    model: ModelArgument,
    question: QuestionArgument = None,
    user: UserOption = "",
    json: JsonOption = False,
) -> None:
    """Ask a model through the gateway, as its consumers do."""
    with reported_errors():
        client = NexusClient()
    messages: list[dict[str, str]] = []
    if question is not None:
        with reported_errors():
            answer = _ask(client, model, messages, question, user=user, show=not json)
        if json:
            print_json({"model": model, "question": question, "answer": answer})
        return
    err.print("one question a line, empty line or Ctrl-D ends", style="dim")
    while line := _read_line():
        with reported_errors():
            _ask(client, model, messages, line, user=user, show=True)


def _ask(
    client: NexusClient, model: str, messages: list[dict[str, str]], question: str, *, user: str, show: bool
) -> str:
    messages.append({"role": "user", "content": question})
    answer = ""
    for piece in client.chat(model, messages, user=user or getpass.getuser()):
        answer += piece
        if show:
            out.print(piece, end="", markup=False, soft_wrap=True)
    if show:
        out.print()
    messages.append({"role": "assistant", "content": answer})
    return answer


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
