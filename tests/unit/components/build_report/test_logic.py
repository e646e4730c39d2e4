"""The report shows what a record holds, says what was not reached, and never trusts a document's text."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.build_report.documents import read_documents
from components.build_report.figures import moment, number, short
from components.build_report.logic import build, render, write_report
from serving.contracts.benchmark_report import BenchmarkReport
from serving.contracts.canary_verdict import CanaryVerdict
from serving.contracts.data_contract import DataReport
from serving.contracts.quantization_report import QuantizationReport
from serving.contracts.registration import Registration
from serving.contracts.training import TrainingReport
from serving.record import ReleaseRecord
from tests.fakes import release_records as records

SECTIONS = ("timeline", "data", "training", "candidates", "figures", "canary", "provenance", "spec")
HOSTILE = "</title></style></svg><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' & \x07 \u202e"
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Tree(HTMLParser):
    """Reads HTML strictly: every element closes in order; collects tags, attributes and text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("section", "header"):
            self._section = dict(attrs).get("id") or ""
            self.sections[self._section] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._section:
            self.sections[self._section] += data


def page(record: ReleaseRecord) -> tuple[str, dict[str, str]]:
    """Render a record; return the HTML and the words of each section."""
    text = render(read_documents(record))
    sections = {name: " ".join(words.split()) for name, words in Tree(text).sections.items()}
    return text, sections


def test_promoted_release_shows_every_part(tmp_path: Path) -> None:
    """Headline, steps with a resumed one, data, curve, candidates, evidence, commits and spec are all there."""
    text, sections = page(records.promoted(tmp_path / records.RELEASE_ID))
    assert tuple(sections)[1:] == SECTIONS
    assert "not reached" not in " ".join(sections.values())
    assert "Promoted w8a8 serves all traffic after 284 requests" in sections["verdict"]
    assert "cut off" in sections["timeline"]
    assert "All 46 rules of the contract hold." in sections["data"]
    for name, *_ in records.RECIPES:
        assert name in sections["candidates"]
    assert "has no attribute cpu_gemm_wna16" in sections["candidates"]
    assert "Time to first token, p90" in sections["canary"]
    assert records.sha("w25")[7:19] in sections["provenance"]
    assert "weight_percent: 25" in sections["spec"]
    assert text.count("<svg") >= 14


def test_figures_have_one_source_and_every_commit_its_time(tmp_path: Path) -> None:
    """Tokens/s are those that the verdict compares; deployment and ending stand with the time of their commits."""
    record = records.promoted(tmp_path / records.RELEASE_ID)
    documents = read_documents(record)
    _, sections = page(record)
    assert documents.benchmark is not None
    for one in documents.benchmark.candidates:
        if one.speed:
            best = max(one.speed, key=lambda level: level.concurrency).best_tokens_per_second
            assert f" {number(best)} " in sections["candidates"]
    assert documents.deployment is not None
    assert documents.conclusion is not None
    for commit, time in (
        (documents.deployment.commit, documents.deployment.committed_at),
        (documents.conclusion.commit, documents.conclusion.committed_at),
    ):
        assert f"{short(commit)}{moment(time)}" in sections["provenance"]


ENDINGS = {
    "rolled_back": ("Rolled back", "Exact match: 63.2\xa0% on the candidate, 90.2\xa0% on the baseline"),
    "inconclusive": ("Inconclusive", "the candidate stays at 50 %"),
    "rejected_offline": ("Rejected", "No candidate was deployed. No candidate passes every gate."),
    "rejected_data": ("Rejected", "The data breaks 2 rules of its contract. train: no card-number - expected 0 rows"),
    "failed": ("Failed", "Step quantize_model failed. OSError: [Errno 28] No space left on device"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_headline_says_how_it_ended_and_why(ending: str, tmp_path: Path) -> None:
    """The first lines alone tell the outcome."""
    word, why = ENDINGS[ending]
    _, sections = page(getattr(records, ending)(tmp_path / records.RELEASE_ID))
    assert sections["verdict"].split(" · ")[1].startswith(f"support-assistant {word} ")
    assert why.replace("\xa0", " ") in sections["verdict"].replace("\xa0", " ")


def test_first_release_says_that_it_had_nothing_to_compare_with(tmp_path: Path) -> None:
    """Absolute gates are named as the ground of the verdict."""
    _, sections = page(records.promoted(tmp_path / records.RELEASE_ID, first=True))
    assert "judged by absolute gates only" in sections["canary"]
    assert "not judged on a first release" in sections["canary"]


def test_parts_that_were_not_reached_say_so(tmp_path: Path) -> None:
    """A release that failed early has every section, and each missing document names its step."""
    _, sections = page(records.failed(tmp_path / records.RELEASE_ID))
    reached = {"verdict", "timeline", "data", "training", "spec"}
    for name in SECTIONS:
        assert ("not reached" in sections[name]) is (name not in reached or name == "timeline"), name
    assert "before benchmark_model left its document" in sections["figures"]


def test_empty_record_still_gives_a_page(tmp_path: Path) -> None:
    """Nothing at all is a release that has not started."""
    _, sections = page(ReleaseRecord(tmp_path / "support-assistant-000000000000"))
    assert "Not finished The release has no verdict. No step has started." in sections["verdict"]
    assert "support-assistant-000000000000" in sections["verdict"]


def test_unreadable_documents_are_named(tmp_path: Path) -> None:
    """A document that does not fit its contract is shown as such, and the rest of the page stands."""
    record = records.promoted(tmp_path / records.RELEASE_ID)
    (record.folder / "verdict.json").write_text('{"decision": "maybe"}')
    (record.folder / "training.json").write_text("{")
    _, sections = page(record)
    assert "unreadable verdict.json" in sections["canary"]
    assert "unreadable training.json" in sections["training"]
    assert "All 46 rules" in sections["data"]


def test_hostile_text_is_only_ever_text(tmp_path: Path) -> None:
    """Answers, errors, layer and gate names from outside cannot add an element, an attribute or a link target."""
    record = records.promoted(tmp_path / records.RELEASE_ID)
    plain = Tree(render(read_documents(record)))
    data = records.data_report(
        [{"split": "train", "rule": HOSTILE, "expected": HOSTILE, "found": HOSTILE, "example_rows": [HOSTILE]}]
    )
    record.publish(
        "data", DataReport.model_validate(data | {"data_docs": "javascript:alert(1)", "contract_version": HOSTILE})
    )
    record.publish("training", TrainingReport.model_validate(records.training_report() | {"origin": HOSTILE}))
    quantization = records.quantization_report()
    quantization["candidates"][1] |= {"tool": HOSTILE, "layer_errors": {HOSTILE: 0.1, "b": 0.2}}
    quantization["candidates"][2] |= {"status": "failed", "reason": HOSTILE}
    record.publish("quantization", QuantizationReport.model_validate(quantization))
    benchmark = records.benchmark_report() | {"reason": HOSTILE, "machine": HOSTILE}
    benchmark["candidates"][0]["gates"][0] |= {"gate": HOSTILE, "reason": HOSTILE}
    record.publish("benchmark", BenchmarkReport.model_validate(benchmark))
    record.publish(
        "registration", Registration.model_validate(records.REGISTRATION | {"storage_uri": HOSTILE, "run_id": HOSTILE})
    )
    record.publish("verdict", CanaryVerdict.model_validate(records.verdict() | {"reason": HOSTILE, "notes": [HOSTILE]}))
    text = render(read_documents(record))
    tree = Tree(text)
    assert set(tree.tags) <= set(plain.tags) | {"ul"}
    assert {name for name, _ in tree.attributes} <= {name for name, _ in plain.attributes}
    assert {value for name, value in tree.attributes if name == "href"} == {f"#{name}" for name in SECTIONS} | {
        "javascript%3Aalert%281%29"
    }
    assert "<script" not in text
    assert html.escape("<img src=x onerror=alert(2)>") in text


def test_page_needs_no_other_file_and_no_script(tmp_path: Path) -> None:
    """No element loads anything, and the page forbids it should one ever be added."""
    text, _ = page(records.promoted(tmp_path / records.RELEASE_ID))
    tree = Tree(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(tree.tags)
    assert not re.search(r"url\(|@import|https?://|src=", text)
    assert "default-src 'none'" in text


def test_build_writes_one_file_and_is_repeatable(tmp_path: Path) -> None:
    """The same record gives the same bytes, also after the report's own step was recorded; it stays small."""
    record = records.rolled_back(tmp_path / records.RELEASE_ID)
    build(record, tmp_path / "one.html")
    build(record, tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.html").stat().st_size < 200_000
    assert [str(event.kind) for event in record.events()[-2:]] == ["started", "finished"]


def test_report_made_anew_leaves_the_record_alone(tmp_path: Path) -> None:
    """A release that is running writes its events alone."""
    record = records.rolled_back(tmp_path / records.RELEASE_ID)
    before = (record.folder / "events.jsonl").read_bytes()
    assert write_report(record, tmp_path / "one.html") == (tmp_path / "one.html").stat().st_size
    assert (record.folder / "events.jsonl").read_bytes() == before


def test_outline_is_as_agreed(tmp_path: Path) -> None:
    """Words of the stable parts: headings, table heads, names of figures; a change here is a change of the report."""
    text, _ = page(records.promoted(tmp_path / records.RELEASE_ID))
    outline = re.findall(r"<(?:h2|h3|th|dt)[^>]*>([^<]*)<|aria-label=\"([^\"]*)\"", text)
    lines = [html.unescape(a or b) for a, b in outline]
    golden = Path(__file__).with_name("outline.txt")
    assert lines == golden.read_text().splitlines()
