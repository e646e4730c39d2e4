"""Locks: one holder, known by its number, gone with it; forks do not inherit them."""

from __future__ import annotations

import os
from pathlib import Path

from serving.local.lock_file import LockFile, lock_holder


def in_child(work: object) -> int:
    """Run a function in a fork and return what it returned."""
    pid = os.fork()
    if pid == 0:
        os._exit(int(work()))  # type: ignore[operator]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_one_holder(tmp_path: Path) -> None:
    """Another process does not get it and sees who has it; the lock ends with its holder."""
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    lock = LockFile(path)
    assert lock.acquire()
    holder = os.getpid()
    assert in_child(lambda: LockFile(path).acquire()) == 0
    assert in_child(lambda: lock_holder(path) == holder) == 1
    lock.close()
    assert in_child(lambda: LockFile(path).acquire()) == 1
    assert lock_holder(path) is None


def test_fork_does_not_hold_it(tmp_path: Path) -> None:
    """An engine that was forked while its parent held the lock cannot keep it from the parent's successor."""
    path = tmp_path / "lock"
    lock = LockFile(path)
    assert lock.acquire()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    lock.close()
    try:
        assert LockFile(path).acquire()
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(pid, 0)
