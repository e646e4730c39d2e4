"""Axes of charts: round ends, round ticks, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from components.build_report.figures import number


@dataclass(frozen=True)
class Axis:
    """Maps values to a share of the axis; `ticks` lie within `low` and `high`."""

    low: float
    high: float
    label: str
    ticks: tuple[float, ...]
    text: Callable[[float], str] = number
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one; beyond the ends it stays at them."""
        if self.log:
            value, low, high = (math.log10(max(v, 1e-300)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


def axis(
    values: Iterable[float],
    label: str,
    *,
    include: Sequence[float] = (),
    text: Callable[[float], str] = number,
    log: bool = False,
) -> Axis:
    """Make an axis with round ends that holds all finite values and those in `include`."""
    known = [value for value in (*values, *include) if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log:
        first, last = math.floor(math.log10(low or 1)), math.ceil(math.log10(high or 1))
        last = max(last, first + 1)
        step = max(1, math.ceil((last - first) / 5))
        return Axis(
            10.0**first, 10.0**last, label, tuple(10.0**k for k in range(first, last + 1, step)), text, log=True
        )
    ticks = nice_ticks(low, high)
    return Axis(min(low, ticks[0]), max(high, ticks[-1]), label, ticks, text)


def nice_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Return about `count` round values that cover a range; a range without width is widened."""
    if high <= low:
        half = abs(low) / 2 or 0.5
        low, high = low - half, high + half
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))
