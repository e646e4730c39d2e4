"""Small charts as inline SVG: lines, steps, intervals.

Text is escaped by the XML writer; colours come from the page's CSS.

Every chart is drawn for `WIDTH` pixels, about a column of the page, so that its text keeps its size on a telephone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET  # only written here, never parsed

from components.build_report.axis import Axis

WIDTH = 420
HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 30, 40
_ROW = 30
_CHARACTER = 6.4
"""Mean width of a character at 11 pixels, in pixels; good enough to keep labels clear of each other."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line. `style` is the CSS class that colours it; `dots` marks each point and tells its values on hover.

    `label` writes the name beside the last point.
    """

    name: str
    points: tuple[Point, ...]
    style: str
    shape: Literal["line", "steps"] = "line"
    dots: bool = False
    label: bool = False


@dataclass(frozen=True)
class Rule:
    """A dashed line at one value of the vertical axis (of the horizontal one in an interval chart)."""

    value: float
    label: str
    style: str = "limit"


@dataclass(frozen=True)
class Band:
    """A shaded range of the horizontal axis, labelled at its top."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Interval:
    """One row of an interval chart: an estimate between its bounds."""

    name: str
    low: float
    value: float
    high: float
    style: str
    note: str = ""


def plot(
    title: str, x: Axis, y: Axis, series: Sequence[Series], *, rules: Sequence[Rule] = (), bands: Sequence[Band] = ()
) -> str:
    """Draw lines over two axes.

    Args:
        title: What the chart shows, read out by screen readers.
        x: Horizontal axis.
        y: Vertical axis.
        series: Lines, drawn in order.
        rules: Horizontal limits.
        bands: Shaded ranges behind everything.

    Returns:
        An `<svg>` element as text.
    """
    root = _root(title, HEIGHT)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def px(value: float) -> float:
        return _LEFT + x.at(value) * (right - _LEFT)

    def py(value: float) -> float:
        return bottom - y.at(value) * (bottom - _TOP)

    for index, band in enumerate(bands):
        _band(root, px(band.start), px(band.end), band.label, shaded=index % 2 == 0)
    for tick in y.ticks:
        _line(root, _LEFT, py(tick), right, py(tick), "grid")
        _text(root, _LEFT - 7, py(tick) + 4, y.text(tick), "tick end")
    for tick in x.ticks:
        _text(root, px(tick), bottom + 16, x.text(tick), "tick mid")
    _line(root, _LEFT, bottom, right, bottom, "axis")
    _text(root, (_LEFT + right) / 2, HEIGHT - 7, x.label, "label mid")
    _text(root, 0, 11, y.label, "label")
    for one in series:
        _series(root, one, [(px(a), py(b)) for a, b in one.points], (x, y))
    _labels(root, [(one, px(one.points[-1][0]), py(one.points[-1][1])) for one in series if one.label and one.points])
    for rule in rules:
        _line(root, _LEFT, py(rule.value), right, py(rule.value), f"rule {rule.style}")
        _text(root, right, py(rule.value) - 5, rule.label, f"rule-label end {rule.style}")
    return _render(root)


def intervals(title: str, x: Axis, rows: Sequence[Interval], rules: Sequence[Rule] = ()) -> str:
    """Draw estimates with their intervals, one row each, over one horizontal axis.

    Returns:
        An `<svg>` element as text; its height follows the number of rows.
    """
    height = _TOP + _ROW * len(rows) + _BOTTOM
    root = _root(title, height)
    left = min(150, _LEFT + max((len(row.name) for row in rows), default=0) * _CHARACTER)
    right, bottom = WIDTH - _RIGHT - 6, height - _BOTTOM

    def px(value: float) -> float:
        return left + x.at(value) * (right - left)

    for tick in x.ticks:
        _line(root, px(tick), _TOP - 6, px(tick), bottom, "grid")
        _text(root, px(tick), bottom + 16, x.text(tick), "tick mid")
    _text(root, (left + right) / 2, height - 7, x.label, "label mid")
    for rule in rules:
        _line(root, px(rule.value), _TOP - 10, px(rule.value), bottom, f"rule {rule.style}")
        side = "end" if px(rule.value) > (left + right) / 2 else ""
        _text(root, px(rule.value) + (-4 if side else 4), _TOP - 14, rule.label, f"rule-label {side} {rule.style}")
    for index, row in enumerate(rows):
        middle = _TOP + _ROW * (index + 0.5)
        group = _element(root, "g", {"class": row.style})
        _element(
            group, "title", {}, f"{row.name}: {x.text(row.value)} ({x.text(row.low)} to {x.text(row.high)}) {row.note}"
        )
        _text(group, left - 10, middle + 4, _cut(row.name, (left - 14) / _CHARACTER), "name end")
        _line(group, px(row.low), middle, px(row.high), middle, "whisker")
        for end in (row.low, row.high):
            _line(group, px(end), middle - 4, px(end), middle + 4, "whisker")
        _element(group, "circle", {"class": "dot", "cx": _n(px(row.value)), "cy": _n(middle), "r": "4.5"})
    return _render(root)


def _series(root: ET.Element, one: Series, points: Sequence[Point], axes: tuple[Axis, Axis]) -> None:
    group = _element(root, "g", {"class": one.style})
    _element(group, "title", {}, one.name)
    if points:
        path = f"M{_n(points[0][0])} {_n(points[0][1])}"
        for x, y in points[1:]:
            path += f"H{_n(x)}V{_n(y)}" if one.shape == "steps" else f"L{_n(x)} {_n(y)}"
        _element(group, "path", {"class": "line", "d": path})
    if one.dots:
        for (x, y), (value_x, value_y) in zip(points, one.points, strict=True):
            dot = _element(group, "circle", {"class": "dot", "cx": _n(x), "cy": _n(y), "r": "3.2"})
            _element(dot, "title", {}, f"{one.name}: {axes[1].text(value_y)} at {axes[0].text(value_x)}")


def _labels(root: ET.Element, labels: Sequence[tuple[Series, float, float]]) -> None:
    """Write names beside their points: right, left, above or below, whichever is free of names already written."""
    taken: list[tuple[float, float, float]] = []
    for one, x, y in labels:
        width = len(one.name) * _CHARACTER
        places = ((x + 9, y + 4), (x - 9 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 17))
        free = [
            (left, base)
            for left, base in places
            if left + width <= WIDTH - _RIGHT + 4
            and all(abs(base - other) > 11 or left > end or left + width < start for start, end, other in taken)
        ]
        left, base = free[0] if free else places[0]
        taken.append((left, left + width, base))
        group = _element(root, "g", {"class": one.style})
        _text(group, left, base, one.name, "name")


def _band(root: ET.Element, start: float, end: float, label: str, *, shaded: bool) -> None:
    if shaded:
        place = {
            "x": _n(start),
            "y": str(_TOP),
            "width": _n(max(0.0, end - start)),
            "height": str(HEIGHT - _BOTTOM - _TOP),
        }
        _element(root, "rect", {"class": "band", **place})
    if end - start >= len(label) * _CHARACTER:
        _text(root, (start + end) / 2, HEIGHT - _BOTTOM - 6, label, "band-label mid")


def _root(title: str, height: int) -> ET.Element:
    return ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "role": "img", "aria-label": _clean(title)})


def _element(parent: ET.Element, tag: str, attributes: dict[str, str], text: str | None = None) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = None if text is None else _clean(text)
    return child


def _line(parent: ET.Element, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
    _element(parent, "line", {"class": style, "x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2)})


def _text(parent: ET.Element, x: float, y: float, text: str, style: str) -> None:
    _element(parent, "text", {"class": style.strip(), "x": _n(x), "y": _n(y)}, text)


def _render(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    """Replace what XML cannot hold."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _cut(text: str, characters: float) -> str:
    return text if len(text) <= characters else f"{text[: max(1, int(characters) - 1)]}…"
