"""Preparing data gives one file a split, generated or copied byte by byte, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.prepare_data.logic import DataSourceError, prepare
from serving.contracts.data_contract import DataContract, Split
from serving.contracts.progress import EventKind
from serving.data_rows import read_rows, split_file
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.source_content import ChangedSourceError
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


def test_generated_rows_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    """The same generator arguments are generated once; other arguments are not taken for them."""
    source = {"generator": {"name": "support-questions", "rows": {"train": 5, "evaluation": 3}}}
    output, _ = _prepare(tmp_path, make_contract(source=source))
    first = digest_folder(output)
    output, record = _prepare(tmp_path, make_contract(source=source))
    assert [event.kind for event in record.events()].count(EventKind.CACHED) == 1
    assert digest_folder(output) == first
    source["generator"]["seed"] = 5  # type: ignore[index]
    output, record = _prepare(tmp_path, make_contract(source=source))
    assert [event.kind for event in record.events()].count(EventKind.CACHED) == 1
    assert digest_folder(output) != first


def test_a_changed_file_replaces_what_was_put_out(tmp_path: Path) -> None:
    """Files of a folder are copied anew every time."""
    write_splits(tmp_path / "data", ROWS)
    _prepare(tmp_path, make_contract())
    write_splits(tmp_path / "data", {Split.TRAIN: [make_row(9)]})
    output, _ = _prepare(tmp_path, make_contract())
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


def test_whatever_the_files_hold_is_copied_byte_by_byte(tmp_path: Path) -> None:
    """Lines that are no rows are copied as they are: it is validate_data that lists every one of them."""
    write_splits(tmp_path / "data", ROWS)
    raw = b'{oops\r\n{"id": "\xff"}\n' + b"x" * (1 << 20) + b"\n\n[1]"
    (tmp_path / "data" / "train.jsonl").write_bytes(raw)
    output, _ = _prepare(tmp_path, make_contract())
    assert (output / "train.jsonl").read_bytes() == raw
    assert read_rows(split_file(output, Split.EVALUATION)) == ROWS[Split.EVALUATION]


def test_files_that_changed_since_the_release_was_resolved_are_refused(tmp_path: Path) -> None:
    """A release's id names its data, so other bytes are refused with what to do, and nothing is put out."""
    data = write_splits(tmp_path / "data", ROWS)
    release = release_with(make_contract(), tmp_path).model_copy(update={"data_digest": digest_folder(data)})
    settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
    prepare(release, tmp_path / "output", settings=settings, record=record)
    assert digest_folder(tmp_path / "output") == release.data_digest
    write_splits(tmp_path / "data", {Split.TRAIN: [make_row(9)]})
    with pytest.raises(ChangedSourceError, match="release the spec again"):
        prepare(release, tmp_path / "output", settings=settings, record=record)
    assert not (tmp_path / "output").exists()
