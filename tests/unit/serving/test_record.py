"""The release record survives what kills and full disks leave behind."""

from pathlib import Path

import pytest

from serving.contracts.progress import EventKind
from serving.record import ReleaseRecord


def kinds(record: ReleaseRecord) -> list[EventKind]:
    return [event.kind for event in record.events()]


def test_a_torn_line_costs_itself_and_nothing_behind_it(tmp_path: Path) -> None:
    """Half a line, as a full disk leaves it, is skipped; the event after it is read."""
    record = ReleaseRecord(tmp_path)
    record.emit("a", EventKind.STARTED)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"ts": 1.0, "st')
    assert kinds(record) == [EventKind.STARTED]
    record.emit("a", EventKind.FINISHED)
    assert kinds(record) == [EventKind.STARTED, EventKind.FINISHED]


def test_a_step_that_fails_says_so_and_its_error_propagates(tmp_path: Path) -> None:
    """Start and failure stand in the events, the failure with its message."""
    record = ReleaseRecord(tmp_path)
    with pytest.raises(OSError, match="disk"), record.step("a"):
        raise OSError("disk full")
    assert kinds(record) == [EventKind.STARTED, EventKind.FAILED]
    assert record.events()[-1].message == "OSError: disk full"


def test_a_step_that_ends_reports_its_summary(tmp_path: Path) -> None:
    """What the step learned is the message of its end."""
    record = ReleaseRecord(tmp_path)
    with record.step("a") as progress:
        progress.say("half", 0.5)
        progress.summary = "done"
    assert kinds(record) == [EventKind.STARTED, EventKind.PROGRESS, EventKind.FINISHED]
    assert record.events()[-1].message == "done"
