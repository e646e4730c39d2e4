"""Tables and the plot of false alarms and detection delays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from components.analyze_canary.proof.alarms import (
    HORIZON,
    METHODS,
    SEQUENTIAL,
    Outcome,
    World,
    compare,
    latency_methods,
    rate_methods,
    safe_latency,
    safe_rate,
)
from components.analyze_canary.proof.competitors import Method
from components.analyze_canary.proof.worlds import Failures, Latencies

_FACTORY: Final = {"latency": latency_methods, "rate": rate_methods}

HARMLESS: Final[Sequence[tuple[str, str, World]]] = (
    ("latency, A/A", "latency", Latencies()),
    ("latency, A/A with load bursts of factor 3", "latency", Latencies(burst_factor=3.0)),
    ("latency, 10 % slower (allowed)", "latency", Latencies(ratio=1.1)),
    ("latency, exactly the allowed 1.5", "latency", Latencies(ratio=1.5)),
    ("latency, exactly 1.5, with load bursts", "latency", Latencies(ratio=1.5, burst_factor=3.0)),
    ("rate, A/A at 10 %", "rate", Failures(0.1, 0.1)),
    ("rate, 10 % to 13 % (allowed)", "rate", Failures(0.1, 0.13)),
    ("rate, exactly the allowed 10 points", "rate", Failures(0.1, 0.2)),
)
"""Traffic on which an alarm is wrong, because the candidate stays within the margin."""


HARMFUL: Final[Sequence[tuple[str, Callable[[], Mapping[str, Method]], World]]] = (
    ("latency, exactly 1.5 times", safe_latency, Latencies(ratio=1.5)),
    ("latency, exactly 1.5 times, with load bursts of factor 3", safe_latency, Latencies(ratio=1.5, burst_factor=3.0)),
    ("latency, 1.6 times", safe_latency, Latencies(ratio=1.6)),
    ("rate, exactly 10 points more", safe_rate, Failures(0.1, 0.2)),
    ("rate, 12 points more", safe_rate, Failures(0.1, 0.22)),
)
"""Traffic on which "safe" is a wrong claim."""


@dataclass(frozen=True)
class Curve:
    """Effect sizes of one metric, and each method's outcome at every one."""

    title: str
    unit: str
    effects: tuple[float, ...]
    outcomes: tuple[Mapping[str, Outcome], ...]


def false_alarms(*, runs: int, seed: int) -> list[str]:
    """Return a Markdown table of the share of harmless canaries that each method stops."""
    rows = [f"| harmless traffic | {' | '.join(METHODS)} |", f"| --- |{' --- |' * len(METHODS)}"]
    for name, kind, world in HARMLESS:
        outcomes = compare(world, _FACTORY[kind], runs=runs, seed=seed)
        rows.append(f"| {name} | {' | '.join(f'{outcomes[method].share:.1%}' for method in METHODS)} |")
    return rows


def false_safety(*, runs: int, seed: int) -> list[str]:
    """Return a Markdown table of the share of harmful canaries that are ever called safe on the metric."""
    rows = ["| harmful traffic | wrongly called safe |", "| --- | --- |"]
    for name, methods, world in HARMFUL:
        share = compare(world, methods, runs=runs, seed=seed)[SEQUENTIAL].share
        rows.append(f"| {name} | {share:.1%} |")
    return rows


def curves(*, runs: int, seed: int) -> tuple[Curve, ...]:
    """Measure detection delays over effect sizes."""
    ratios, differences = (1.75, 2.0, 2.5, 3.0, 4.0), (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    slower = tuple(compare(Latencies(ratio=r), latency_methods, runs=runs, seed=seed) for r in ratios)
    worse = tuple(compare(Failures(0.1, 0.1 + d), rate_methods, runs=runs, seed=seed) for d in differences)
    return (
        Curve("median latency, allowed ratio 1.5", "times the baseline's", ratios, slower),
        Curve("bad answers, allowed 10 points more than 10 %", "more bad answers", differences, worse),
    )


def delays(curve: Curve) -> list[str]:
    """Return a Markdown table: requests of both sides until the alarm, median / 90th percentile, and share found."""
    rows = [f"| {curve.unit} | {' | '.join(METHODS)} |", f"| --- |{' --- |' * len(METHODS)}"]
    for effect, outcomes in zip(curve.effects, curve.outcomes, strict=True):
        cells = [_delay(outcomes[method]) for method in METHODS]
        rows.append(f"| {effect:g} | {' | '.join(cells)} |")
    return rows


def plot(found: Sequence[Curve], path: Path) -> None:
    """Draw median delays over effect sizes, one panel a metric, into a PNG file."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only this function needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 4.2), squeeze=False)
    styles = dict(zip(METHODS, ("o-", "s--", "s:", "^--", "^:", "x:"), strict=True))
    for axis, curve in zip(axes[0], found, strict=True):
        for method in METHODS:
            medians = [outcomes[method].delay(0.5) for outcomes in curve.outcomes]
            heights = [value if math.isfinite(value) else math.nan for value in medians]
            axis.plot(curve.effects, heights, styles[method], label=method)
        axis.set(title=curve.title, xlabel=curve.unit, ylim=(0, HORIZON * 1.05))
        axis.set_ylabel("judged requests until the alarm (median)")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _delay(outcome: Outcome) -> str:
    def figure(quantile: float) -> str:
        value = outcome.delay(quantile)
        return f"{value:.0f}" if math.isfinite(value) else f"> {HORIZON}"

    return f"{figure(0.5)} / {figure(0.9)} ({outcome.share:.0%})"
