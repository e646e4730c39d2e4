"""Preparing data gives one file a split, from the cache when nothing changed, or an error that names file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.prepare_data.logic import DataSourceError, prepare
from serving.contracts.data_contract import DataContract, Split
from serving.contracts.progress import EventKind
from serving.data_rows import read_rows, split_file
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.data_sets import make_contract, make_row, release_with, write_splits

ROWS = {Split.TRAIN: [make_row(1), make_row(2)], Split.EVALUATION: [make_row(3)]}


def _prepare(tmp_path: Path, contract: DataContract) -> tuple[Path, ReleaseRecord]:
    record, output = ReleaseRecord(tmp_path / "record"), tmp_path / "output"
    settings = NexusSettings(home=tmp_path / "home")
    prepare(release_with(contract, tmp_path), output, settings=settings, record=record)
    return output, record


def test_a_generator_fills_every_split_with_rules(tmp_path: Path) -> None:
    """A generator writes one file a split of the contract, with the rows asked for, and none for other splits."""
    source = {"generator": {"name": "support-questions", "rows": {"train": 5, "evaluation": 3, "live": 9}}}
    output, _ = _prepare(tmp_path, make_contract(source=source))
    assert {path.name: len(read_rows(path)) for path in output.iterdir()} == {"train.jsonl": 5, "evaluation.jsonl": 3}


def test_a_generator_without_rows_for_a_split_is_refused(tmp_path: Path) -> None:
    """A generator that has no rows for a split of the contract is refused, and the message names the split."""
    source = {"generator": {"name": "support-questions", "rows": {"train": 5}}}
    with pytest.raises(DataSourceError, match="got none for evaluation: add them"):
        _prepare(tmp_path, make_contract(source=source))


def test_a_folder_is_copied_row_by_row(tmp_path: Path) -> None:
    """Rows from a folder arrive in the output as they were."""
    write_splits(tmp_path / "data", ROWS)
    output, _ = _prepare(tmp_path, make_contract())
    assert read_rows(split_file(output, Split.TRAIN)) == ROWS[Split.TRAIN]


def test_the_second_run_comes_from_the_cache_and_a_changed_file_does_not(tmp_path: Path) -> None:
    """Unchanged files are prepared from the cache; a changed one is read again and its rows are in the output."""
    write_splits(tmp_path / "data", ROWS)
    _prepare(tmp_path, make_contract())
    _, record = _prepare(tmp_path, make_contract())
    assert [event.kind for event in record.events()].count(EventKind.CACHED) == 1
    write_splits(tmp_path / "data", {Split.TRAIN: [make_row(9)]})
    output, record = _prepare(tmp_path, make_contract())
    assert [event.kind for event in record.events()].count(EventKind.CACHED) == 1
    assert [row.id for row in read_rows(split_file(output, Split.TRAIN))] == ["row-9"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A source folder that is not there is named, with the files that are expected in it."""
    with pytest.raises(DataSourceError, match=r"expected a folder of <split>.jsonl files at .*data; got nothing"):
        _prepare(tmp_path, make_contract())


def test_every_missing_split_is_named(tmp_path: Path) -> None:
    """An empty source folder's error names the file of each split at once."""
    (tmp_path / "data").mkdir()
    with pytest.raises(DataSourceError) as caught:
        _prepare(tmp_path, make_contract())
    assert "train.jsonl" in str(caught.value)
    assert "evaluation.jsonl" in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A folder in the place of a split's file is named, with the split and the system's reason."""
    write_splits(tmp_path / "data", ROWS)
    (tmp_path / "data" / "train.jsonl").unlink()
    (tmp_path / "data" / "train.jsonl").mkdir()
    with pytest.raises(DataSourceError, match=r"train.jsonl: expected the rows of split train; Is a directory"):
        _prepare(tmp_path, make_contract())


BROKEN_LINES = {
    "no JSON": (b"{oops", "this is none"),
    "empty line": (b"", "this is none"),
    "a list": (b"[1]", "valid dictionary"),
    "a missing key": (json.dumps({"id": "a", "intent": "b", "messages": []}).encode(), "answer: field required"),
    "an unknown key": (json.dumps({**make_row(1).model_dump(), "extra": 1}).encode(), "extra: extra inputs"),
    "no UTF-8": (b'{"id": "\xff"}', "UTF-8"),
    "deep nesting": (b"[" * 100_000, "nested too deeply"),
    "a huge line": (b'"' + b"x" * (1 << 20) + b'"', "at most 1048576 bytes"),
}


@pytest.mark.parametrize("kind", BROKEN_LINES)
def test_a_line_that_is_no_row_is_named_by_file_and_line(tmp_path: Path, kind: str) -> None:
    """A line that is no row is named by file, line and reason, and nothing is put out."""
    raw, says = BROKEN_LINES[kind]
    write_splits(tmp_path / "data", ROWS)
    with (tmp_path / "data" / "train.jsonl").open("ab") as file:
        file.write(raw + b"\n")
    with pytest.raises(DataSourceError, match=rf"train.jsonl:3: .*{says}"):
        _prepare(tmp_path, make_contract())
    assert not (tmp_path / "output").exists()
