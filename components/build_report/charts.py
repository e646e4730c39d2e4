"""Charts of what was measured offline: training, errors per layer, quality and speed of the candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.build_report.axis import Axis, axis
from components.build_report.candidates import Row
from components.build_report.figures import percent
from components.build_report.svg import Interval, Rule, Series, intervals, plot
from serving.contracts.benchmark_report import SpeedLevel
from serving.contracts.release_spec import Gates
from serving.contracts.training import TrainingReport

HEAT_LEVELS = 7
"""Shades of the page's CSS: classes h0 to h6."""

_MAX_COLUMNS = 64
"""Of the layer map; deeper models show the worst layer of each run of layers."""


def training_charts(report: TrainingReport, target: float | None) -> list[str]:
    """Draw held-out exact match and loss over the seconds of training; nothing without a curve."""
    if len(report.curve) < 2:
        return []
    seconds = axis([point[0] for point in report.curve], "seconds", include=[0])
    match = tuple((point[0], point[2]) for point in report.curve)
    loss = tuple((point[0], point[1]) for point in report.curve)
    rules = [Rule(target, f"target {percent(target, 0)}")] if target is not None else []
    shares = axis([], "exact match on held-out rows", include=[0, 1], text=lambda value: percent(value, 0))
    losses = axis([point[1] for point in loss], "loss", include=[0])
    return [
        plot(
            "Exact match while training", seconds, shares, [Series("exact match", match, "c1", dots=True)], rules=rules
        ),
        plot("Loss while training", seconds, losses, [Series("loss", loss, "c2", dots=True)]),
    ]


def quality_charts(rows: Sequence[Row], gates: Gates | None) -> list[str]:
    """Draw exact match of every served model, and how much each loses against the stable one, with intervals."""
    measured = [(row, row.result.quality) for row in rows if row.result and row.result.quality]
    charts = []
    match = [
        _interval(row, quality.exact_match.low, quality.exact_match.value, quality.exact_match.high)
        for row, quality in measured
    ]
    if match:
        floor = [gates.quality.min_exact_match] if gates and gates.quality.min_exact_match else []
        scale = axis(
            _bounds(match), "exact match on held-out rows", include=floor, text=lambda value: percent(value, 0)
        )
        charts.append(
            intervals("Exact match with its interval", scale, match, [Rule(value, "at least") for value in floor])
        )
    losses = [(row, quality.exact_match_loss) for row, quality in measured if quality.exact_match_loss is not None]
    loss = [_interval(row, estimate.low, estimate.value, estimate.high) for row, estimate in losses]
    if loss:
        limit = [gates.quality.max_exact_match_loss] if gates else []
        scale = axis(
            _bounds(loss),
            "exact match lost against stable (same rows)",
            include=[0, *limit],
            text=lambda value: percent(value, 0),
        )
        charts.append(
            intervals(
                "Loss against the stable model with its interval",
                scale,
                loss,
                [Rule(value, "at most") for value in limit],
            )
        )
    return charts


def speed_charts(rows: Sequence[Row]) -> list[str]:
    """Draw throughput and the 90th percentiles of both latencies over concurrency, one line a model."""
    wanted: tuple[tuple[str, str, Callable[[SpeedLevel], float]], ...] = (
        ("Throughput", "output tokens per second, best round", lambda level: level.best_tokens_per_second),
        ("Time to first token", "time to first token, p90, ms", lambda level: level.ttft_p90_ms),
        ("Time between tokens", "time between tokens, p90, ms", lambda level: level.itl_p90_ms),
    )
    measured = [row for row in rows if row.result and row.result.speed]
    if not measured:
        return []
    levels = sorted({level.concurrency for row in measured if row.result for level in row.result.speed})
    places = {concurrency: float(index) for index, concurrency in enumerate(levels)}
    ticks = tuple(places.values())
    across = Axis(0, max(1.0, ticks[-1]), "concurrent requests", ticks, lambda value: str(levels[int(value)]))
    charts = []
    for title, label, figure in wanted:
        lines = [_speed_line(row, places, figure) for row in measured]
        upward = axis([y for line in lines for _, y in line.points], label, include=[0])
        charts.append(plot(f"{title} over concurrency", across, upward, lines))
    return charts


def trade_off_chart(rows: Sequence[Row], gates: Gates | None) -> str:
    """Draw exact match against throughput, one labelled point a model; empty with fewer than two."""
    points = [
        Series(
            row.name,
            ((row.speed.best_tokens_per_second, row.result.quality.exact_match.value),),
            row.style,
            dots=True,
            label=True,
        )
        for row in rows
        if row.speed and row.result and row.result.quality
    ]
    if len(points) < 2:
        return ""
    floor = [gates.quality.min_exact_match] if gates and gates.quality.min_exact_match else []
    across = axis(
        [series.points[0][0] for series in points], "output tokens per second at the highest concurrency", include=[0]
    )
    shares = [series.points[0][1] for series in points]
    upward = axis(shares, "exact match (up and right is better)", include=floor, text=lambda value: percent(value, 0))
    return plot(
        "Quality against throughput", across, upward, points, rules=[Rule(value, "at least") for value in floor]
    )


def _speed_line(row: Row, places: Mapping[int, float], figure: Callable[[SpeedLevel], float]) -> Series:
    assert row.result is not None
    points = tuple(
        (places[level.concurrency], figure(level))
        for level in sorted(row.result.speed, key=lambda level: level.concurrency)
    )
    return Series(row.name, points, row.style, dots=True)


def _interval(row: Row, low: float, value: float, high: float) -> Interval:
    return Interval(row.name, low, value, high, row.style)


def _bounds(rows: Sequence[Interval]) -> list[float]:
    return [bound for row in rows for bound in (row.low, row.high)]


@dataclass(frozen=True)
class Cell:
    """One layer's error: `level` is its shade, `title` what hovering tells."""

    level: int
    title: str


@dataclass(frozen=True)
class LayerRow:
    """Errors of one candidate's layers, in the model's order, with the figures that sum them up."""

    name: str
    cells: Sequence[Cell]
    median: float
    worst: float
    worst_layer: str


def layer_rows(rows: Sequence[Row]) -> list[LayerRow]:
    """Shade every candidate's error per layer on one logarithmic scale, from the smallest to the largest of all."""
    errors = {row.name: row.built.layer_errors for row in rows if row.built and row.built.layer_errors}
    values = [value for one in errors.values() for value in one.values() if value > 0]
    if not values:
        return []
    scale = Axis(min(values), max(*values, min(values) * 1.01), "", (), log=True)
    return [_layer_row(name, one, scale.at) for name, one in errors.items()]


def _layer_row(name: str, errors: Mapping[str, float], place: Callable[[float], float]) -> LayerRow:
    layers = list(errors.items())
    width = -(-len(layers) // _MAX_COLUMNS)
    cells = []
    for start in range(0, len(layers), width):
        layer, value = max(layers[start : start + width], key=lambda pair: pair[1])
        level = min(HEAT_LEVELS - 1, int(place(value) * HEAT_LEVELS)) if value > 0 else 0
        cells.append(Cell(level, f"{layer}: {percent(value, 2)}"))
    worst_layer, worst = max(layers, key=lambda pair: pair[1])
    median = sorted(errors.values())[len(errors) // 2]
    return LayerRow(name, cells, median, worst, worst_layer)
