"""Rows survive writing and reading, and faults are listed with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.data_rows import MAX_LINE_BYTES, MAX_PROBLEMS, DataRowsError, read_rows, scan_rows, write_rows
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


GOOD = make_row(1).model_dump_json().encode()
BROKEN_LINES = {
    "no JSON": (b"{oops", "one JSON object a line; got invalid JSON"),
    "empty line": (b"", "one JSON object a line"),
    "a list": (b"[1]", "should be an object"),
    "a missing key": (json.dumps({"id": "a", "intent": "b", "messages": []}).encode(), "answer: field required"),
    "an unknown key": (json.dumps({**make_row(1).model_dump(), "extra": 1}).encode(), "extra: extra inputs"),
    "a number for text": (GOOD.replace(b'"row-1"', b"1"), "id: input should be a valid string"),
    "a number for a list": (b'{"id":"a","intent":"b","messages":5,"answer":"c"}', "messages: input should be"),
    "no UTF-8": (b'{"id": "\xff"}', "UTF-8"),
    "deep nesting": (b"[" * 100_000, "recursion limit"),
    "a huge line": (b'"' + b"x" * (2 * MAX_LINE_BYTES) + b'"', "at most 1048576 bytes"),
}


@pytest.mark.parametrize("kind", BROKEN_LINES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_is_no_row_has_a_reason_and_the_next_line_is_read(tmp_path: Path, kind: str, end: bytes) -> None:
    """Each kind of broken line keeps its number and gets a reason; the good lines around it are rows as before."""
    raw, says = BROKEN_LINES[kind]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD + end + raw + end + GOOD)
    first, broken, last = scan_rows(tmp_path / "a.jsonl")
    assert (first.row, last.row) == (make_row(1), make_row(1))
    assert (first.number, broken.number, last.number) == (1, 2, 3)
    assert broken.row is None
    assert says in broken.problem


def test_a_broken_line_begins_as_a_person_reads_it(tmp_path: Path) -> None:
    """The beginning of a broken line is short, its escapes are resolved and nothing invisible is left in it."""
    raw = '{"call": "\\u0030\\u0031\\u0030-1\u200b234 \\ud800' + "\0" + "x" * 9000
    (tmp_path / "a.jsonl").write_text(raw)
    (line,) = scan_rows(tmp_path / "a.jsonl")
    assert line.beginning.startswith('{"call": "010-1234 xxx')
    assert len(line.beginning) < 400


def test_many_faults_are_listed_up_to_a_bound(tmp_path: Path) -> None:
    """The error holds every fault, and its text lists them up to the bound and counts the rest."""
    (tmp_path / "a.jsonl").write_text("x\n" * (MAX_PROBLEMS + 5))
    with pytest.raises(DataRowsError) as caught:
        read_rows(tmp_path / "a.jsonl")
    assert len(caught.value.problems) == MAX_PROBLEMS + 5
    assert str(caught.value).endswith("and 5 more")
