"""Files between the reconciler and its callers, and the records that it leaves to its successor."""

from __future__ import annotations

import json
from pathlib import Path

from serving.local.node_files import NodeFiles
from serving.local.processes import ProcessId
from serving.local.service_record import RecordStore, ServiceRecord


def record(folder: Path, **changes: object) -> ServiceRecord:
    fields: dict[str, object] = {
        "service": "a",
        "spec_digest": "d",
        "served_name": "m",
        "token": "t",
        "port": 20001,
        "log_path": "/x.log",
        "identity_path": str(folder / "t.json"),
        "started_at": 1.0,
    }
    return ServiceRecord.model_validate({**fields, **changes})


def test_wish_is_taken_away_only_after_the_status(tmp_path: Path) -> None:
    """Whoever waits for the end of a wish sees a status that knows of it; a wish that comes meanwhile stays."""
    files = NodeFiles(tmp_path)
    files.ask_retry(["a"])
    assert files.take_retry() == {"a"}
    files.ask_retry(["b"])
    assert files.retry_waits(["a"])
    files.retry_done()
    assert not files.retry_waits(["a"])
    assert files.take_retry() == {"b"}


def test_status_of_another_version_is_none(tmp_path: Path) -> None:
    """An unreadable status is no status."""
    files = NodeFiles(tmp_path)
    assert files.read_status() is None
    files.status.write_text('{"other": 1}')
    assert files.read_status() is None


def test_record_round_trip(tmp_path: Path) -> None:
    """A successor reads what was written; what it cannot read it leaves alone."""
    store = RecordStore(tmp_path / "services")
    assert store.all() == []
    store.write(record(tmp_path))
    (store.folder / "z.json").write_text("{}")
    assert store.all() == [record(tmp_path)]
    store.remove(record(tmp_path))
    assert store.all() == []


def test_engine_identifies_itself(tmp_path: Path) -> None:
    """A record from before the start finds the process by the file that the engine wrote."""
    planned = record(tmp_path)
    assert planned.process is None
    (tmp_path / "t.json").write_text(json.dumps({"pid": 7, "start_time": 9, "lease": False}))
    assert planned.process == ProcessId(7, 9)
    assert record(tmp_path, pid=8, start_time=1).process == ProcessId(8, 1)
    (tmp_path / "t.json").write_text("{")
    assert planned.process is None
