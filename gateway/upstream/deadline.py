"""The deadline that travels with a request: how much time is left when it is sent on."""

from __future__ import annotations

from typing import Final

DEADLINE_HEADER: Final = b"x-nexus-deadline-ms"
"""Milliseconds that the answer may still take, counted from the request's arrival: clocks need not agree."""


def seconds_left(value: bytes | None) -> float | None:
    """Read the header's value; None when there is none or it is no number of milliseconds."""
    if value is None or not value.isdigit() or len(value) > 12:
        return None
    return int(value) / 1000
