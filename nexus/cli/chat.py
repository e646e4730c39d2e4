"""Command that asks a served model through the gateway."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from nexus.cli.output import JsonOption, err, out, print_json
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
    client = NexusClient()
    messages: list[dict[str, str]] = []
    for asked in [question] if question is not None else _questions():
        messages.append({"role": "user", "content": asked})
        answer = _show(client.chat(model, messages, user=user or getpass.getuser()), quiet=json)
        messages.append({"role": "assistant", "content": answer})
    if json and question is not None:
        print_json({"model": model, "question": question, "answer": messages[-1]["content"]})
    elif json:
        print_json({"model": model, "messages": messages})


def _show(pieces: Iterator[str], *, quiet: bool) -> str:
    """Print an answer as it comes, and return it."""
    answer = ""
    for piece in pieces:
        answer += piece
        if not quiet:
            out.print(piece, end="", markup=False, soft_wrap=True)
    if not quiet:
        out.print()
    return answer


def _questions() -> Iterator[str]:
    """Read one question a line until an empty line or the end; only a terminal is shown a prompt."""
    prompt = sys.stdin.isatty()
    if prompt:
        err.print("one question a line, empty line or Ctrl-D ends", style="dim")
    while True:
        try:
            line = (input("> ") if prompt else sys.stdin.readline()).strip()
        except EOFError:
            return
        if not line:
            return
        yield line
