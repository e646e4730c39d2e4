"""An offline page loads nothing from elsewhere and keeps what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.validate_data.data_docs import LOADED_FROM_ELSEWHERE, fill_index, offline_page

LOADING = [
    '<script src="https://cdn.example/a.js"></script>',
    "<script>\n$('a').modal();\n</script>",
    '<link rel="stylesheet" href="https://cdn.example/a.css"/>',
    '<link rel="icon" href="./favicon.ico">',
    '<img\n class="x"\n src="https://example.com/logo.png?d=1"\n/>',
    "<style>a { background: url('https://example.com/b.png') 0 0; }</style>",
    '<button onclick="clearTableFilters(1)">x</button>',
]


@pytest.mark.parametrize("piece", LOADING)
def test_what_loads_from_elsewhere_goes(piece: str) -> None:
    """Whatever loads or runs a script is removed; text stays, and the given style is put inline."""
    page = offline_page(f"<html><head></head><body>{piece}<p>kept</p></body></html>", "p { color: red }")
    assert LOADED_FROM_ELSEWHERE.search(page) is None
    assert "<script" not in page
    assert "onclick" not in page
    assert "<p>kept</p>" in page
    assert "<style>p { color: red }</style></head>" in page


def test_links_that_a_person_follows_stay() -> None:
    """A link to another site, which loads nothing by itself, is kept."""
    page = '<head></head><a href="https://greatexpectations.io">site</a>'
    assert 'href="https://greatexpectations.io"' in offline_page(page, "")


def test_the_index_lists_every_suite_with_links_to_its_pages(tmp_path: Path) -> None:
    """Each suite has a row with its result, and links to its rules and to the pages of its results."""
    page = tmp_path / "validations" / "train" / "run" / "rows-train.html"
    page.parent.mkdir(parents=True)
    page.touch()
    html = '<table class="ge-index-page-validation-results-table" id="x">\n</table>'
    filled = fill_index(html, tmp_path, {"train": False, "live": True})
    assert 'href="validations/train/run/rows-train.html"' in filled
    assert 'href="expectations/live.html"' in filled
    assert filled.count("Failed") == filled.count("Passed") == 1
