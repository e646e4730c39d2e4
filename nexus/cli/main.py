"""The `nexus` command: one line a command; what each does lives beside this file. Errors end here, and only here."""

from __future__ import annotations

import sys
import traceback
from typing import Final

import typer

from nexus.cli import chat, clean, demo, doctor, install, keys, node, policy, release
from nexus.cli.output import EXIT_FAILURE, EXIT_USAGE, failure_of, print_error

EXIT_INTERRUPTED: Final = 130

app = typer.Typer(
    name="nexus",
    help="Take an open-weight LLM from a data contract to a judged canary, and keep it healthy there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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
app.command()(clean.clean)
app.command()(demo.demo)
app.add_typer(keys.keys)
app.add_typer(policy.policy)


def main() -> int:
    """Run the command and return its exit code; with `--json` every error is a JSON object on stdout."""
    json = "--json" in sys.argv[1:]
    try:
        return int(app(standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        print_error("interrupted", "interrupted; the same command carries on", json=json)
        return EXIT_INTERRUPTED
    except typer.TyperException as exc:
        if message := exc.format_message().rstrip("."):  # empty where the help has just been shown
            context = getattr(exc, "ctx", None)
            command = context.command_path if context is not None else "nexus"
            print_error("usage", f"{message}: `{command} --help` says what is expected", json=json)
        return EXIT_USAGE
    except Exception as exc:  # noqa: BLE001 - the edge of this process: every failure becomes a message and an exit code
        failure = failure_of(exc)
        if failure is None:
            traceback.print_exc()
            print_error("internal", f"{type(exc).__name__}: {exc}; this is a bug of Nexus, please report it", json=json)
            return EXIT_FAILURE
        print_error(failure.code, str(exc), json=json)
        return failure.exit_code
