"""What a command shows while it waits."""

import io

import pytest
from rich.console import Console

from nexus.cli.waiting_view import waiting_view


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_waited_for_is_shown_as_it_is(terminal: bool) -> None:
    """A line each without a terminal; in one, one line with the time that has passed, which goes in the end."""
    file = io.StringIO()
    with waiting_view(Console(file=file, force_terminal=terminal, width=80, color_system=None)) as say:
        say("importing the engine once, 4 s")
        say("m-1: Starting ([bold]x[/])")
    shown = file.getvalue()
    if terminal:
        assert "0:00:00 m-1: Starting ([bold]x[/])" in shown
        assert shown.endswith("\x1b[2K") or "\x1b[1A" in shown
    else:
        assert shown == "importing the engine once, 4 s\nm-1: Starting ([bold]x[/])\n"
