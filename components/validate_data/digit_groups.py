"""Digits of a text as groups: which stand together, and what separates them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MIN_DIGITS = 8
MAX_DIGITS = 19
"""Shortest phone number with a prefix, longest card number; windows outside are never built."""

_RUN = re.compile(r"\d(?:[ \-._/·,()]{0,3}\d)*")
_GROUP = re.compile(r"\d+")


@dataclass(frozen=True)
class Run:
    """Longest stretch of digits with at most three separators in between.

    Attributes:
        groups: Digits that stand together, with where they start.
        separators: What stands between group i and i + 1.
        before: Up to three characters before the run.
    """

    groups: tuple[tuple[str, int], ...]
    separators: tuple[str, ...]
    before: str


@dataclass(frozen=True)
class Window:
    """Neighbouring groups of a run that may be one number.

    Attributes:
        digits: All digits.
        layout: Length of each group.
        separators: What stands between the groups.
        before: Up to three characters before the first group.
        is_whole_run: No other group stands before or after.
        is_loose: All groups are single digits, and no single digit stands before or after.
    """

    digits: str
    layout: tuple[int, ...]
    separators: tuple[str, ...]
    before: str
    start: int
    end: int
    is_whole_run: bool
    is_loose: bool

    @property
    def is_even(self) -> bool:
        """All groups are equally long, two to four digits, the last one perhaps shorter."""
        size = self.layout[0]
        return 2 <= size <= 4 and set(self.layout[:-1]) <= {size} and self.layout[-1] <= size

    @property
    def has_date(self) -> bool:
        """Some groups read like a date: year, month, day in any usual order."""
        triples = zip(self.layout, self.layout[1:], self.layout[2:], strict=False)
        return any(triple in _DATE_LAYOUTS for triple in triples)


_DATE_LAYOUTS = {layout for m in (1, 2) for d in (1, 2) for layout in ((4, m, d), (d, m, 4))}


def runs_of(text: str) -> Iterator[Run]:
    """Yield the runs of a text that hold enough digits to matter."""
    for match in _RUN.finditer(text):
        start = match.start()
        found = [(group.group(), start + group.start()) for group in _GROUP.finditer(match.group())]
        if sum(len(digits) for digits, _ in found) < MIN_DIGITS:
            continue
        ends = [at + len(digits) for digits, at in found]
        separators = tuple(text[end:at] for end, (_, at) in zip(ends, found[1:], strict=False))
        yield Run(tuple(found), separators, text[max(0, start - 3) : start])


def windows_of(run: Run) -> Iterator[Window]:
    """Yield all neighbouring groups of a run with 8 to 19 digits together."""
    count = len(run.groups)
    for first in range(count):
        total = 0
        for last in range(first, count):
            total += len(run.groups[last][0])
            if total > MAX_DIGITS:
                break
            if total >= MIN_DIGITS:
                yield _window(run, first, last)


def _window(run: Run, first: int, last: int) -> Window:
    groups = run.groups[first : last + 1]
    layout = tuple(len(digits) for digits, _ in groups)
    outside = [run.groups[index][0] for index in (first - 1, last + 1) if 0 <= index < len(run.groups)]
    return Window(
        digits="".join(digits for digits, _ in groups),
        layout=layout,
        separators=run.separators[first:last],
        before=run.before if first == 0 else run.separators[first - 1],
        start=groups[0][1],
        end=groups[-1][1] + len(groups[-1][0]),
        is_whole_run=not outside,
        is_loose=set(layout) == {1} and all(len(digits) > 1 for digits in outside),
    )
