"""Figures as people read them: durations, sizes, shares, moments. The template's filters."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from serving import wording

DASH = "\N{EN DASH}"
"""Stands where there is no figure."""

_MINUTE = 60
_HOUR = 3600
_DIGEST_CHARACTERS = 12


def duration(seconds: float | None) -> str:
    """Write a duration in seconds with the unit that suits it: `340 ms`, `12.4 s`, `3 min 20 s`, `1 h 5 min`."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def size(count: int | None) -> str:
    """Write a number of bytes as the log does: `3.1 MB`."""
    return DASH if count is None else wording.size(count)


def number(value: float | None) -> str:
    """Write a number as the log does: `0.0123`, `12.3`, `1,234`."""
    return DASH if value is None else wording.number(value)


def percent(fraction: float | None, decimals: int = 1) -> str:
    """Write a share between 0 and 1 as a percentage: `86.8 %`."""
    return DASH if fraction is None else f"{fraction * 100:.{decimals}f}\N{NO-BREAK SPACE}%"


def milliseconds(value: float | None) -> str:
    """Write milliseconds: `85.2 ms`."""
    return DASH if value is None else f"{number(value)} ms"


def moment(seconds: float | None) -> str:
    """Write Unix seconds as a date and time in UTC."""
    return DASH if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def short(digest: str | None) -> str:
    """Shorten `sha256:<64 hex>` or a commit to its first twelve digits."""
    return DASH if not digest else digest.removeprefix("sha256:")[:_DIGEST_CHARACTERS]


def link(path: str) -> str:
    """Return a relative address of a file in the record; anything else, such as another scheme, leads nowhere."""
    return quote(path) if not path.startswith("/") and ".." not in path.split("/") else "#"


FILTERS = {
    "duration": duration,
    "size": size,
    "number": number,
    "percent": percent,
    "milliseconds": milliseconds,
    "moment": moment,
    "short": short,
    "link": link,
}
