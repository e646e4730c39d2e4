"""Files that are whole or absent, and locks that die with their holder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from serving import files
from serving.files import atomic_folder, file_lock


def in_child(work: object) -> int:
    """Run a function in a fork; minus the signal's number when one ended it."""
    pid = os.fork()
    if pid == 0:
        os._exit(int(work() or 0))  # type: ignore[operator]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_inside(path: Path) -> None:
    """Be killed while a folder is half written."""
    with atomic_folder(path) as work:
        (work / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)


def test_folder_of_a_killed_maker_goes_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves is removed by whoever makes a folder beside it; nothing that somebody is making is."""
    monkeypatch.setattr(files, "_NEW_SECONDS", -1.0)
    assert in_child(lambda: die_inside(tmp_path / "one")) == -signal.SIGKILL
    (tmp_path / ".one.kept").mkdir()
    assert len(list(tmp_path.glob(".one.*.unfinished"))) == 1
    with atomic_folder(tmp_path / "two") as outer:
        assert not list(tmp_path.glob(".one.*.unfinished"))
        (outer / "whole").write_text("x")
        with atomic_folder(tmp_path / "three"):
            assert outer.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".one.kept", "three", "two"]


def test_brand_new_folder_is_nobodys_to_remove(tmp_path: Path) -> None:
    """Between its creation and its lock a folder looks as if its maker were dead."""
    (tmp_path / ".new.x.unfinished").mkdir()
    with atomic_folder(tmp_path / "two"):
        assert (tmp_path / ".new.x.unfinished").is_dir()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A second holder is refused or waits; the lock of a dead one is free."""
    path = tmp_path / "below" / "lock"
    with file_lock(path), pytest.raises(BlockingIOError), file_lock(path, wait=False):
        pass

    def die() -> None:
        with file_lock(path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    with file_lock(path, wait=False) as descriptor:
        assert os.fstat(descriptor).st_ino == path.stat().st_ino
