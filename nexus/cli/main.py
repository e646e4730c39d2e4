"""The `nexus` command: one line a command; what each does lives beside this file."""

from __future__ import annotations

import typer

from nexus.cli import chat, demo, doctor, install, node, release

app = typer.Typer(
    name="nexus",
    help="Take an open-weight LLM from a data contract to a judged canary, and keep it healthy there.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
app.command()(release.release)
app.command()(release.report)
app.command()(node.up)
app.command()(node.down)
app.command()(node.status)
app.command()(chat.chat)
app.command()(doctor.doctor)
app.command()(install.install)
app.command()(demo.demo)


def main() -> None:
    """Run the command."""
    app()
