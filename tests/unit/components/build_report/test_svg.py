"""Charts are well-formed XML whose marks lie where the values say."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from components.build_report.axis import axis
from components.build_report.svg import HEIGHT, WIDTH, Band, Interval, Rule, Series, intervals, plot

X = axis([0, 10], "seconds")
Y = axis([0, 1], "share")


def elements(svg: str, tag: str) -> list[ET.Element]:
    """Parse a chart and list elements of one kind."""
    return list(ET.fromstring(svg).iter(tag))


def texts(svg: str) -> list[str]:
    """List the words of a chart."""
    return [element.text or "" for element in elements(svg, "text")]


def test_line_goes_through_its_points() -> None:
    """Larger values are further right and higher."""
    svg = plot("t", X, Y, [Series("a", ((0, 0), (5, 0.5), (10, 1)), "c1", dots=True)])
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in elements(svg, "circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in dots)
    middle = [(a + b) / 2 for a, b in zip(dots[0], dots[2], strict=True)]
    assert abs(dots[1][0] - middle[0]) < 0.2
    assert abs(dots[1][1] - middle[1]) < 0.2


def test_steps_turn_at_right_angles() -> None:
    """A weight holds until the next commit changes it."""
    path = elements(plot("t", X, Y, [Series("a", ((0, 0), (5, 1)), "c1", shape="steps")]), "path")[0]
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+", path.get("d", ""))


def test_rules_and_bands_are_labelled() -> None:
    """A threshold and a range of weights carry their words; a range too narrow for them has none."""
    svg = plot("t", X, Y, [], rules=[Rule(0.9, "target")], bands=[Band(0, 0.1, "5 %"), Band(0.1, 9, "25 %")])
    assert {"target", "25 %"} <= set(texts(svg))
    assert "5 %" not in texts(svg)


def test_empty_series_draws_axes_only() -> None:
    """No data is an empty chart, not an error."""
    svg = plot("t", axis([], "x"), axis([], "y"), [Series("a", (), "c1", dots=True, label=True)])
    assert elements(svg, "path") == []
    assert {"x", "y"} <= set(texts(svg))


def test_names_of_equal_points_do_not_cover_each_other() -> None:
    """Two models with the same figures are both readable."""
    svg = plot("t", X, Y, [Series(name, ((5, 0.5),), "c1", label=True) for name in ("stable", "bf16", "w8a8")])
    places = {(e.text, e.get("x"), e.get("y")) for e in elements(svg, "text") if e.text in {"stable", "bf16", "w8a8"}}
    assert len({(x, y) for _, x, y in places}) == 3


def test_interval_spans_its_bounds() -> None:
    """The dot lies between the whisker's ends."""
    svg = intervals("t", X, [Interval("a", 2, 4, 9, "c1")], [Rule(5, "at least")])
    whisker = next(line for line in elements(svg, "line") if line.get("class") == "whisker")
    dot = elements(svg, "circle")[0]
    assert float(whisker.get("x1", "")) < float(dot.get("cx", "")) < float(whisker.get("x2", ""))


def test_text_is_escaped_and_always_valid_xml() -> None:
    """Names from documents may hold anything, also what XML cannot."""
    nasty = "</text><script>x</script>&\"'\x00\x1b\ud800"
    svg = plot(nasty, X, Y, [Series(nasty, ((1, 1),), "c1", dots=True, label=True)], rules=[Rule(1, nasty)])
    svg += intervals(nasty, X, [Interval(nasty, 1, 2, 3, "c1", nasty)])
    assert "<script" not in svg
    assert elements(f"<svg>{svg}</svg>", "script") == []
