"""Sentences of a bounded length: what a commit's subject, a tag and a terminal's line can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REASON_CHARACTERS: Final = 160
"""Longest reason of a verdict; the report holds the details."""


def shorten(text: str, limit: int = REASON_CHARACTERS) -> str:
    """Fold white space into one line and cut it at `limit` characters, with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def list_within(head: str, parts: Sequence[str], limit: int = REASON_CHARACTERS) -> str:
    """Write `head` and as many of the parts as fit whole, in their order, and say how many more there are."""
    for shown in range(len(parts), 0, -1):
        more = f"; {len(parts) - shown} more" if shown < len(parts) else ""
        line = shorten(f"{head}{'; '.join(parts[:shown])}{more}", 2 * limit)
        if len(line) <= limit:
            return line
    return shorten(head + "; ".join(parts), limit)
