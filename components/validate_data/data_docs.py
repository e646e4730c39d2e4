"""Make Great Expectations' Data Docs work offline: no page loads anything that does not stand beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_STYLE = Path(__file__).with_name("data_docs.css")
_SCRIPTS = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
_LINKS = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
_IMAGES = re.compile(r"<img\b[^>]*\bsrc\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.DOTALL | re.IGNORECASE)
_STYLE_IMAGES = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_RESULTS_TABLE = re.compile(r"(<table\b[^>]*ge-index-page-validation-results-table[^>]*>)\s*</table>")
_SUITES_TABLE = re.compile(r"<table\b[^>]*ge-index-page-expectation_suites-table[^>]*>\s*</table>")
_HANDLERS = re.compile(r"\son[a-z]+\s*=\s*(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)

LOADED_FROM_ELSEWHERE: Final = re.compile(
    r"<(?:script|img|iframe|link|source|video|audio|embed|object)\b[^>]*(?:https?:)?//|url\(\s*['\"]?(?:https?:)?//"
    r"|@import",
    re.IGNORECASE,
)
"""What a browser would fetch from another host; plain `<a href>` links are fine."""


def make_offline(docs: Path, passed: Mapping[str, bool]) -> None:
    """Rewrite every page of a site in place: own style, no scripts, no pictures from elsewhere.

    Args:
        docs: Folder of the site.
        passed: Suite name to whether all its rules hold; the index lists them, as scripts filled it before.
    """
    style = _STYLE.read_text(encoding="utf-8")
    for page in sorted(docs.rglob("*.html")):
        html = offline_page(page.read_text(encoding="utf-8"), style)
        if page == docs / "index.html":
            html = fill_index(html, docs, passed)
        page.write_text(html, encoding="utf-8")


def fill_index(html: str, docs: Path, passed: Mapping[str, bool]) -> str:
    """Put one row a suite into the index page's table of results, and drop its table of suites."""
    rows = "".join(_index_row(docs, name, holds) for name, holds in passed.items())
    head = "<thead><tr><th>Status</th><th>Results</th><th>Rules</th></tr></thead>"
    html = _RESULTS_TABLE.sub(lambda match: f"{match.group(1)}{head}<tbody>{rows}</tbody></table>", html, count=1)
    return _SUITES_TABLE.sub("", html, count=1)


def _index_row(docs: Path, name: str, holds: bool) -> str:
    icon = "fa-check-circle" if holds else "fa-times"
    results = sorted((docs / "validations" / name).rglob("*.html"))
    links = "".join(f'<a href="{page.relative_to(docs).as_posix()}">{name}</a>' for page in results)
    status = f'<i class="fas {icon}"></i> {"Passed" if holds else "Failed"}'
    return f'<tr><td>{status}</td><td>{links}</td><td><a href="expectations/{name}.html">{name} rules</a></td></tr>'


def offline_page(html: str, style: str) -> str:
    """Return a page that needs nothing but itself.

    Scripts go as a whole, because those inside the page need the libraries that are gone; the style shows what they
    would have unfolded.
    """
    for pattern in (_SCRIPTS, _LINKS, _IMAGES, _HANDLERS):
        html = pattern.sub("", html)
    html = _STYLE_IMAGES.sub("none", html)
    return html.replace("</head>", f"<style>{style}</style></head>", 1)
