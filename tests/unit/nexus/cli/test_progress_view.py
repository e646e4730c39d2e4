"""What a release shows while it works."""

import io

from rich.console import Console

from nexus.cli.progress_view import progress_view
from serving.contracts.progress import EventKind, ProgressEvent


def render(events: list[ProgressEvent], *, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with progress_view(console) as view:
        for event in events:
            view.event(event)
    return file.getvalue()


def event(ts: float, kind: EventKind, message: str = "", fraction: float | None = None) -> ProgressEvent:
    return ProgressEvent(ts=ts, step="train_model", kind=kind, message=message, fraction=fraction)


EVENTS = [
    event(1000.0, EventKind.STARTED),
    event(1001.0, EventKind.PROGRESS, "step 10 [bold]not markup[/]", 0.1),
    event(1002.0, EventKind.PROGRESS, "step 20", 0.2),
    event(1007.5, EventKind.PROGRESS, "step 70", 0.7),
    event(1010.0, EventKind.FINISHED, "exact match 0.91"),
]


def test_plain_lines_are_thinned_but_starts_and_ends_stay() -> None:
    """Without a terminal a chatty step prints at most every few seconds, and its end with its duration."""
    lines = render(EVENTS, terminal=False).splitlines()
    assert [line.split("] ", 1)[1] for line in lines] == [
        "train_model started",
        "train_model progress: step 10 [bold]not markup[/]",
        "train_model progress: step 70",
        "train_model finished (10.0 s): exact match 0.91",
    ]


def test_live_table_shows_the_step_its_time_and_its_summary() -> None:
    """In a terminal the last frame has the step, how long it took, and what came out."""
    last = render(EVENTS, terminal=True)
    assert "✔" in last
    assert "train_model" in last
    assert "10 s" in last
    assert "exact match 0.91" in last


def test_live_table_escapes_messages() -> None:
    """A message is text, never markup."""
    assert "[bold]not markup[/]" in render(EVENTS[:2], terminal=True)
