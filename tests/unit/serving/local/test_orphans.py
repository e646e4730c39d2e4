"""Engines without an owner: ended with what they left; everybody else's are left alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.local import engine_host, orphans, processes, shutdown
from serving.local.engine_host import scratch_folder
from serving.local.errors import EngineError
from serving.local.processes import ProcessId
from serving.local.service_record import RecordStore, ServiceRecord
from serving.settings import NexusSettings

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NexusSettings]:
    monkeypatch.setattr(engine_host, "_TEMPORARY", tmp_path)
    made = NexusSettings(home=tmp_path / "home")
    (made.run_dir / "engines").mkdir(parents=True)
    yield made
    for process in processes.processes_of_home(made.home):
        processes.kill_group(process, made.home)


def start(settings: NexusSettings, argv: tuple[str, ...] = (sys.executable, "-S", "-c", SLEEP)) -> ProcessId:
    return processes.spawn_detached(argv, {"NEXUS_HOME": str(settings.home)}, settings.home / "x.log")


def identify(settings: NexusSettings, process: ProcessId, *, token: str = "t", lease: bool = False) -> Path:
    path = settings.run_dir / "engines" / f"{token}.json"
    path.write_text(json.dumps({"pid": process.pid, "start_time": process.start_time, "lease": lease}))
    (scratch_folder(settings) / token).mkdir()
    return path


def test_engine_without_a_record_is_ended(settings: NexusSettings) -> None:
    """It was started for a reconciler that gave it up; its files go too."""
    process = start(settings)
    path = identify(settings, process)
    orphans.sweep(settings)
    assert not process.alive()
    assert not path.exists()
    assert list(scratch_folder(settings).iterdir()) == []


def test_recorded_and_leased_engines_stay(settings: NexusSettings) -> None:
    """Somebody has them."""
    recorded, leased = start(settings), start(settings)
    path = identify(settings, recorded, token="r")
    identify(settings, leased, token="l", lease=True)
    fields = {"service": "a", "spec_digest": "d", "served_name": "m", "token": "r", "port": 1, "log_path": "/x"}
    record = ServiceRecord.model_validate({**fields, "identity_path": str(path), "started_at": 0.0})
    RecordStore(settings.run_dir / "services").write(record)
    orphans.sweep(settings)
    assert recorded.alive()
    assert leased.alive()
    assert len(list(scratch_folder(settings).iterdir())) == 2


def test_dead_leased_engine_and_unreadable_file_go(settings: NexusSettings) -> None:
    """What is left of them is removed."""
    gone = start(settings, (sys.executable, "-S", "-c", ""))
    assert gone.wait(10)
    path = identify(settings, gone, lease=True)
    (settings.run_dir / "engines" / "z.json").write_text("{")
    orphans.sweep(settings)
    assert not path.exists()
    assert list((settings.run_dir / "engines").iterdir()) == []


def test_scratch_of_somebody_else_is_refused(settings: NexusSettings) -> None:
    """A folder in the shared temporary folder that others may write to is not used."""
    scratch_folder(settings).chmod(0o777)
    with pytest.raises(EngineError, match="private folder"):
        scratch_folder(settings)


def test_shutdown_leaves_foreign_programs_alone(settings: NexusSettings) -> None:
    """A shell or an editor that inherited the mark is not ours to end; our interpreter is."""
    foreign = start(settings, ("/bin/sleep", "60"))
    own = start(settings)
    try:
        assert shutdown.ours(settings) == [own]
    finally:
        processes.kill_group(foreign, settings.home)
