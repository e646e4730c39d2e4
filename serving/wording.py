"""Words that several places share: sentences of a bounded length, and figures as the log and the report write them."""

from __future__ import annotations

import math
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


def size(count: int) -> str:
    """Write a number of bytes in decimal units: `3.1 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit takes every value")


def number(value: float) -> str:
    """Write a number with three significant digits, whole from 100 on: `0.0123`, `12.3`, `1,234`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(decimals, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
