"""Show a release's progress: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from serving.contracts.progress import EventKind, ProgressEvent

PLAIN_EVERY_SECONDS = 5.0
_MARKS = {
    EventKind.FINISHED: "[green]✔[/]",
    EventKind.CACHED: "[cyan]●[/]",
    EventKind.FAILED: "[red]✘[/]",
}


class ProgressView(Protocol):
    """Shows events between `__enter__` and `__exit__`."""

    def __enter__(self) -> Self:
        """Start showing."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; what was shown stays on the screen."""
        ...

    def event(self, event: ProgressEvent) -> None:
        """Show one event."""
        ...


def progress_view(console: Console) -> ProgressView:
    """Pick the view that fits where the output goes."""
    return _LiveView(console) if console.is_terminal else _PlainView(console)


class _PlainView:
    """One line an event; repeated progress of a step at most every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.time()
        self._started: dict[str, float] = {}
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def event(self, event: ProgressEvent) -> None:
        """Print the event unless its step spoke just before."""
        if event.kind is EventKind.STARTED:
            self._started[event.step] = event.ts
        elif event.kind is EventKind.PROGRESS:
            if event.ts - self._shown.get(event.step, 0.0) < PLAIN_EVERY_SECONDS:
                return
            self._shown[event.step] = event.ts
        took = f" ({event.ts - self._started.get(event.step, event.ts):.1f} s)" if _ends(event) else ""
        text = f" {event.message}" if event.message else ""
        self._console.print(
            f"[{event.ts - self._start:6.1f} s] {event.step} {event.kind.value}{took}:{text}".rstrip(":"),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class _LiveView:
    """A table of steps that redraws itself."""

    def __init__(self, console: Console) -> None:
        self._steps: dict[str, _Row] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.refresh()
        self._live.stop()

    def event(self, event: ProgressEvent) -> None:
        """Take the event into its step's row."""
        if event.kind is EventKind.STARTED or event.step not in self._steps:
            self._steps[event.step] = _Row(event)
        if event.kind is not EventKind.STARTED:
            self._steps[event.step].take(event)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=2)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(width=12)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        for name, row in self._steps.items():
            table.add_row(row.mark, name, f"{row.seconds():.0f} s", row.bar, escape(row.message))
        return table


class _Row:
    """State of one step in the live table."""

    def __init__(self, event: ProgressEvent) -> None:
        self._started = event.ts
        self._ended: float | None = None
        self.message = ""
        self.mark: str | Spinner = Spinner("dots", style="yellow")
        self.bar: str | ProgressBar = ""

    def take(self, event: ProgressEvent) -> None:
        """Update from an event."""
        self.message = event.message or self.message
        self.bar = ProgressBar(total=1.0, completed=event.fraction, width=12) if event.fraction is not None else ""
        if event.kind in _MARKS:
            self.mark = _MARKS[event.kind]
        if _ends(event):
            self._ended = event.ts
            self.bar = ""

    def seconds(self) -> float:
        """Seconds the step took, or takes so far."""
        return (self._ended or time.time()) - self._started


def _ends(event: ProgressEvent) -> bool:
    return event.kind in (EventKind.FINISHED, EventKind.FAILED)
