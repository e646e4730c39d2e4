"""Rows survive writing and reading, and faults are listed with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.data_rows import MAX_PROBLEMS, DataRowsError, read_rows, write_rows
from tests.fakes.data_sets import make_row


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Rows read back equal those that were written, also with letters of other scripts and a Unicode line end."""
    rows = [make_row(1), make_row(2, "Zażółć 서울 \u2028?")]
    write_rows(tmp_path / "a.jsonl", rows)
    assert read_rows(tmp_path / "a.jsonl") == rows


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    """An empty file gives no rows and no error."""
    (tmp_path / "a.jsonl").touch()
    assert read_rows(tmp_path / "a.jsonl") == []


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    """A file that is not there is named, with the reason and what to name instead."""
    with pytest.raises(DataRowsError, match=r"a.jsonl: cannot be read: No such file or directory; name a folder"):
        read_rows(tmp_path / "a.jsonl")


def test_many_faults_are_listed_up_to_a_bound(tmp_path: Path) -> None:
    """The error holds every fault, and its text lists them up to the bound and counts the rest."""
    (tmp_path / "a.jsonl").write_text("x\n" * (MAX_PROBLEMS + 5))
    with pytest.raises(DataRowsError) as caught:
        read_rows(tmp_path / "a.jsonl")
    assert len(caught.value.problems) == MAX_PROBLEMS + 5
    assert str(caught.value).endswith("and 5 more")
