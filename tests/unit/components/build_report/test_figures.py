"""Figures read as people write them."""

from __future__ import annotations

import pytest

from components.build_report.figures import DASH, duration, link, milliseconds, moment, number, percent, short, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, DASH),
        (0, "0 ms"),
        (0.34, "340 ms"),
        (12.44, "12.4 s"),
        (59.96, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (3900, "1 h 5 min"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    """The unit suits the length and never reads 60."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (0, "0"),
        (0.01234, "0.0123"),
        (0.9, "0.9"),
        (12.34, "12.3"),
        (1284.4, "1,284"),
        (-0.05, "-0.05"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    """Three digits say enough; whole numbers from 100 on."""
    assert number(value) == text


def test_sizes_and_shares() -> None:
    """Decimal units, and a space that does not break before the sign."""
    assert [size(None), size(0), size(999), size(1_610_000), size(5 * 10**12)] == [
        DASH,
        "0 B",
        "999 B",
        "1.6 MB",
        "5000.0 GB",
    ]
    assert percent(0.8684) == "86.8\xa0%"
    assert (milliseconds(None), milliseconds(85.24)) == (DASH, "85.2 ms")


def test_moment_and_digest() -> None:
    """Times are in UTC; digests are cut to what tells them apart."""
    assert moment(1_772_323_200) == "2026-03-01 00:00:00 UTC"
    assert (short("sha256:" + "ab" * 32), short(None), short("")) == ("abababababab", DASH, DASH)


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//host/x", "/etc/passwd", "../../x", "https://host/x"])
def test_link_leads_only_into_the_record(path: str) -> None:
    """A document cannot send the reader elsewhere."""
    assert link(path) == "#" or ":" not in link(path)
    assert not link(path).startswith("/")
    assert link("data_docs/index.html") == "data_docs/index.html"
