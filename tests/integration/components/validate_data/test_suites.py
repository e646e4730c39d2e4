"""Great Expectations finds every kind of broken rule and names its rows; a whole set passes and is cached."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.validate_data.data_docs import LOADED_FROM_ELSEWHERE
from components.validate_data.logic import BrokenDataError, validate
from serving.contracts.data_contract import BrokenRule, DataReport, DataRow, Message, Split
from serving.contracts.progress import EventKind
from serving.data_rows import split_file
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.data_sets import make_contract, make_row, release_with, write_splits

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),  # importing Great Expectations takes 7 to 17 s, more on a busy machine
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised inside libraries while they are imported
    pytest.mark.filterwarnings("ignore::ImportWarning"),
]

LIMITS = {"min_rows": 2, "max_rows": 40, "min_intents": 1, "max_prompt_tokens": 20, "max_answer_tokens": 20}
GOOD = {
    Split.TRAIN: [make_row(number) for number in range(10)],
    Split.CALIBRATION: [make_row(number) for number in range(20, 24)],
    Split.EVALUATION: [make_row(number) for number in range(40, 50)],
}


def _contract(**body: Any) -> Any:
    return make_contract(splits=dict.fromkeys(["train", "calibration", "evaluation"], LIMITS), **body)


def _validate(tmp_path: Path, rows: dict[Split, list[DataRow]], **body: Any) -> tuple[DataReport, ReleaseRecord]:
    data = write_splits(tmp_path / "data", rows)
    return _validate_folder(tmp_path, data, **body)


def _validate_folder(tmp_path: Path, data: Path, **body: Any) -> tuple[DataReport, ReleaseRecord]:
    record = ReleaseRecord(tmp_path / "record")
    release = release_with(_contract(**body), tmp_path)
    settings = NexusSettings(home=tmp_path / "home")
    return validate(release, data, tmp_path / "validated", settings=settings, record=record), record


def _broken(tmp_path: Path, rows: dict[Split, list[DataRow]], **body: Any) -> tuple[BrokenRule, ...]:
    with pytest.raises(BrokenDataError) as caught:
        _validate(tmp_path, rows, **body)
    return caught.value.broken


def test_a_whole_set_passes_and_the_second_time_comes_from_the_cache(tmp_path: Path) -> None:
    """A good set passes with its rows and digest recorded, and a repetition gives the same report from the cache."""
    report, record = _validate(tmp_path, GOOD)
    assert report.broken == ()
    assert report.rows == {Split.TRAIN: 10, Split.CALIBRATION: 4, Split.EVALUATION: 10}
    assert report.data_digest == digest_folder(tmp_path / "data") == digest_folder(tmp_path / "validated")
    assert record.read("data", DataReport) == report
    again, _ = _validate_folder(tmp_path, tmp_path / "data")
    assert again == report
    assert EventKind.CACHED in [event.kind for event in record.events()]


def test_data_docs_stand_in_the_record_and_load_nothing(tmp_path: Path) -> None:
    """The record's index links two pages a split, all of which exist, and no page loads anything from elsewhere."""
    report, record = _validate(tmp_path, GOOD)
    index = record.folder / str(report.data_docs)
    links = re.findall(r'href="((?:validations|expectations)/[^"]+)"', index.read_text())
    assert len(links) == 6
    assert all((index.parent / link).is_file() for link in links)
    assert index.read_text().count("Passed") == 3
    pages = sorted(index.parent.rglob("*.html"))
    assert len(pages) >= 7
    for page in pages:
        assert LOADED_FROM_ELSEWHERE.search(page.read_text()) is None, page


def test_importing_great_expectations_brings_none_of_what_is_left_out() -> None:
    """A process of its own that imports the suites holds no module that lean imports hide or put off."""
    code = (
        "import sys; import components.validate_data.suite; from components.validate_data import lean_import as l;"
        "print([name for name in (*l._OPTIONAL, *l._LATE) if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _replaced(split: Split, index: int, row: DataRow) -> dict[Split, list[DataRow]]:
    rows = list(GOOD[split])
    rows[index] = row
    return {**GOOD, split: rows}


LONG = " ".join(["word"] * 21)
KINDS = {
    "row-count": (Split.CALIBRATION, {**GOOD, Split.CALIBRATION: GOOD[Split.CALIBRATION][:1]}, None, "1"),
    "turns": (
        Split.TRAIN,
        _replaced(
            Split.TRAIN,
            3,
            DataRow(id="a", intent="b", messages=(Message(role="assistant", content="A"),), answer="B"),
        ),
        "train.jsonl:4: expected user and assistant in turn",
        "1 of 10",
    ),
    "unique-ids": (
        Split.EVALUATION,
        _replaced(Split.EVALUATION, 4, make_row(40, "Something else?")),
        "evaluation.jsonl:5: same as evaluation.jsonl:1 in 'Something else?'",
        "1 of 10",
    ),
    "prompt-length": (Split.TRAIN, _replaced(Split.TRAIN, 1, make_row(90, LONG)), "train.jsonl:2: 21", "1 of 10"),
    "answer-length": (
        Split.TRAIN,
        _replaced(Split.TRAIN, 1, make_row(90, answer=LONG)),
        "train.jsonl:2: 21",
        "1 of 10",
    ),
    "duplicates": (
        Split.TRAIN,
        _replaced(Split.TRAIN, 5, make_row(90, "what about topic number 2?")),
        "train.jsonl:6: same as train.jsonl:3",
        "1 of 10",
    ),
    "leakage": (
        Split.EVALUATION,
        _replaced(Split.EVALUATION, 2, make_row(90, "What about topic number 21?")),
        "evaluation.jsonl:3: same as calibration.jsonl:2",
        "1 of 10",
    ),
    "personal-data-phone-number": (
        Split.EVALUATION,
        _replaced(Split.EVALUATION, 0, make_row(90, "Call 010-1234-5678 now")),
        "evaluation.jsonl:1: ***-****-**** in 'Call ***-****-**** now'",
        "1 of 10",
    ),
    "personal-data-card-number": (
        Split.TRAIN,
        _replaced(Split.TRAIN, 0, make_row(90, answer="Card 4111 1111 1111 1111.")),
        "train.jsonl:1: **** **** **** ****",
        "1 of 10",
    ),
    "personal-data-korean-resident-registration-number": (
        Split.TRAIN,
        _replaced(Split.TRAIN, 0, make_row(90, "I am 900101-1234567")),
        "train.jsonl:1: ******-*******",
        "1 of 10",
    ),
    "personal-data-email-address": (
        Split.TRAIN,
        _replaced(Split.TRAIN, 0, make_row(90, "Write to kim@bank.com")),
        "train.jsonl:1: ***@****.***",
        "1 of 10",
    ),
}


@pytest.mark.parametrize("rule", KINDS)
def test_each_kind_of_broken_rule_is_found_alone_with_its_row(tmp_path: Path, rule: str) -> None:
    """One bad row breaks its rule in its split alone, and is counted and quoted with personal data masked."""
    split, rows, example, found = KINDS[rule]
    broken = _broken(tmp_path, rows)
    assert [(entry.split, entry.rule) for entry in broken] == [(split, rule)]
    assert broken[0].found.startswith(found)
    assert example is None or broken[0].example_rows[0].startswith(example)


def test_too_few_intents_are_found(tmp_path: Path) -> None:
    """A split with fewer intents than it must have breaks that rule, with both numbers."""
    record = ReleaseRecord(tmp_path / "record")
    limits = {**LIMITS, "min_intents": 2}
    contract = make_contract(splits={"train": limits})
    data = write_splits(tmp_path / "data", {Split.TRAIN: GOOD[Split.TRAIN]})
    with pytest.raises(BrokenDataError) as caught:
        validate(
            release_with(contract, tmp_path),
            data,
            tmp_path / "validated",
            settings=NexusSettings(home=tmp_path / "home"),
            record=record,
        )
    assert [(rule.rule, rule.expected, rule.found) for rule in caught.value.broken] == [
        ("intents", "at least 2 intents", "1")
    ]


def test_everything_broken_is_listed_at_once_published_and_shown_masked(tmp_path: Path) -> None:
    """All broken rules are raised together and recorded; nothing is put out, and no page shows personal data."""
    data = write_splits(tmp_path / "data", _replaced(Split.EVALUATION, 0, make_row(90, "Call 010-1234-5678 now")))
    with split_file(data, Split.TRAIN).open("a") as file:
        file.write(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(BrokenDataError) as caught:
        _validate_folder(tmp_path, data)
    assert {(rule.split.value, rule.rule) for rule in caught.value.broken} == {
        ("train", "row-format"),
        ("evaluation", "personal-data-phone-number"),
    }
    assert "train/row-format" in str(caught.value)
    report = ReleaseRecord(tmp_path / "record").read("data", DataReport)
    assert report is not None
    assert report.broken == caught.value.broken
    assert not (tmp_path / "validated").exists()
    kept = b"".join(page.read_bytes() for page in (tmp_path / "record").rglob("*") if page.is_file())
    assert b"1234-5678" not in kept
    assert (tmp_path / "record" / str(report.data_docs)).read_text().count("Failed") == 2


BROKEN_LINES = [
    b"{oops",
    b'{"id": "\xff"}',
    b'{"id": 5, "intent": "a", "messages": [], "answer": "b"}',
    b"x" * (1 << 21),
]


def test_every_rule_of_every_split_is_checked_beside_lines_that_are_no_rows(tmp_path: Path) -> None:
    """Broken lines of each kind are a broken rule with line and example, and hide no other rule of any split."""
    data = write_splits(tmp_path / "data", _replaced(Split.TRAIN, 5, make_row(90, "what about topic number 2?")))
    for split in GOOD:
        with split_file(data, split).open("ab") as file:
            file.writelines(line + b"\n" for line in BROKEN_LINES)
            file.write(make_row(91, LONG).model_dump_json().encode())
    with pytest.raises(BrokenDataError) as caught:
        _validate_folder(tmp_path, data)
    broken = {(rule.split, rule.rule): rule for rule in caught.value.broken}
    expected = {(split, rule) for split in GOOD for rule in ("row-format", "prompt-length")}
    expected |= {(Split.TRAIN, "duplicates"), (Split.EVALUATION, "leakage")}
    assert set(broken) == expected
    rule = broken[Split.TRAIN, "row-format"]
    assert rule.found == "4 of 15 rows break it"
    assert [row.partition(": ")[0] for row in rule.example_rows] == [f"train.jsonl:{line}" for line in range(11, 15)]
    assert rule.example_rows[0].endswith("in '{oops'")
    assert all(str(rule) in str(caught.value) for rule in broken.values())
    report = ReleaseRecord(tmp_path / "record").read("data", DataReport)
    assert report is not None
    assert report.rows == {Split.TRAIN: 15, Split.CALIBRATION: 9, Split.EVALUATION: 15}
    (page,) = (tmp_path / "record" / "data-docs" / "validations" / "train").rglob("*.html")
    assert "one JSON object a line" in page.read_text()


@pytest.mark.parametrize(
    ("raw", "rules"), [(b"", {"row-count", "intents"}), (b"{oops\n" * 3, {"row-format", "intents"})]
)
def test_a_split_without_a_single_row_is_broken_and_not_an_error(tmp_path: Path, raw: bytes, rules: set[str]) -> None:
    """An empty file and one of broken lines alone break the rules that they break; the check itself does not fail."""
    data = write_splits(tmp_path / "data", GOOD)
    split_file(data, Split.CALIBRATION).write_bytes(raw)
    with pytest.raises(BrokenDataError) as caught:
        _validate_folder(tmp_path, data)
    assert {(rule.split, rule.rule) for rule in caught.value.broken} == {(Split.CALIBRATION, rule) for rule in rules}
    assert "itself failed" not in str(caught.value)


def test_allowed_shares_are_allowed_exactly(tmp_path: Path) -> None:
    """One leaked row passes where one is allowed, and two break the rule."""
    rows = _replaced(Split.EVALUATION, 2, make_row(90, "What about topic number 21?"))
    report, _ = _validate(tmp_path, rows, max_leaked_rows=1)
    assert report.broken == ()
    rows[Split.EVALUATION][3] = make_row(91, "What about topic number 22?")
    assert [rule.rule for rule in _broken(tmp_path, rows, max_leaked_rows=1)] == ["leakage"]
