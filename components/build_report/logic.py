"""Build the release's report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from components.build_report import charts, evidence_charts
from components.build_report.candidates import candidate_rows, gate_names
from components.build_report.documents import Documents, read_documents
from components.build_report.figures import FILTERS, size
from components.build_report.headline import headline
from components.build_report.timeline import REPORT_STEP, read_timeline
from serving.files import write_atomic
from serving.record import ReleaseRecord

_TEMPLATES = Path(__file__).resolve().parent / "templates"


def build(record: ReleaseRecord, output: Path) -> None:
    """Write the report of a release, as far as it came; the same record always gives the same bytes.

    Args:
        record: Record of the release; a missing document is shown as a step that was not reached.
        output: HTML file to write, replaced in one step.
    """
    with record.step(REPORT_STEP) as progress:
        progress.summary = f"{output.name}, {size(write_report(record, output))}"


def write_report(record: ReleaseRecord, output: Path) -> int:
    """Write the report and return its size in bytes; the record, which a running release writes to, is only read."""
    html = render(read_documents(record)).encode("utf-8", errors="backslashreplace")
    write_atomic(output, html)
    return len(html)


def render(documents: Documents) -> str:
    """Return the report as HTML text; every value is escaped where it is printed."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("report.html.jinja").render(_context(documents))


def _context(documents: Documents) -> dict[str, Any]:
    timeline = read_timeline(documents.events)
    rows = candidate_rows(documents)
    verdict = documents.verdict
    spec = documents.release.spec if documents.release else None
    recipe = spec.source.train if spec else None
    target = recipe.target_exact_match if recipe else None
    return {
        "d": documents,
        "spec": spec,
        "css": Markup((_TEMPLATES / "report.css").read_text()),  # noqa: S704 - our own file, never a document's text
        "headline": headline(documents, timeline),
        "timeline": timeline,
        "rows": rows,
        "gates": gate_names(rows),
        "layers": charts.layer_rows(rows),
        "training_charts": _trusted(charts.training_charts(documents.training, target) if documents.training else []),
        "quality_charts": _trusted(charts.quality_charts(rows, spec.gates if spec else None)),
        "speed_charts": _trusted(
            [*charts.speed_charts(rows), charts.trade_off_chart(rows, spec.gates if spec else None)]
        ),
        "weight_chart": _trusted([evidence_charts.weight_chart(verdict)] if verdict else []),
        "metrics": evidence_charts.metric_cards(verdict) if verdict else [],
        "reach": evidence_charts.reach(verdict) if verdict else "",
        "svg": lambda text: _trusted([text])[0],
        "spec_text": _yaml(spec),
        "contract_text": _yaml(documents.release.contract if documents.release else None),
    }


def _trusted(drawings: list[str]) -> list[Markup]:
    """Mark drawings as HTML: `svg` wrote them through an XML writer, which escaped all text."""
    return [Markup(drawing) for drawing in drawings if drawing]  # noqa: S704 - see above


def _yaml(document: BaseModel | None) -> str:
    if document is None:
        return ""
    data = json.loads(document.model_dump_json(exclude_none=True))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
