"""Processes: identified for good, started detached, found by their home, ended with their group."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from serving.local import processes
from serving.local.processes import ProcessId

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
FORK = (sys.executable, "-S", "-c", "import os, time; os.fork(); time.sleep(60)")


def start(home: Path, argv: tuple[str, ...] = SLEEP) -> ProcessId:
    return processes.spawn_detached(argv, {"NEXUS_HOME": str(home)}, home / "x.log")


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_detached_process(tmp_path: Path) -> None:
    """Own session, no terminal, empty input, output in the log."""
    code = (
        "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), flush=True); "
        "print('err', file=sys.stderr)"
    )
    process = start(tmp_path, (sys.executable, "-S", "-c", code))
    assert process.wait(10)
    assert (tmp_path / "x.log").read_text() == "True ''\nerr\n"


def test_identity_survives_reuse_of_the_number(tmp_path: Path) -> None:
    """The same number with another start is another process: not alive, and it gets no signal."""
    process = start(tmp_path)
    stranger = replace(process, start_time=process.start_time - 1)
    assert process.alive()
    assert not stranger.alive()
    assert not stranger.send(signal.SIGKILL)
    assert processes.kill_group(stranger, tmp_path)
    assert process.alive()
    assert process.send(signal.SIGKILL)
    assert process.wait(10)
    assert not process.send(signal.SIGTERM)


def test_found_by_home(tmp_path: Path) -> None:
    """Processes of a home are found, those of another whose name begins alike are not, nor is this one."""
    mine, other = tmp_path / "a", tmp_path / "ab"
    for home in (mine, other):
        home.mkdir()
    one, two = start(mine), start(other)
    try:
        eventually(lambda: processes.processes_of_home(mine) == [one])
        assert processes.processes_of_home(other) == [two]
    finally:
        for process in (one, two):
            process.send(signal.SIGKILL)
            process.wait(10)


def test_group_ends_after_its_leader_has_gone(tmp_path: Path) -> None:
    """What a killed leader leaves is found by its group and killed."""
    leader = start(tmp_path, FORK)
    eventually(lambda: len(processes.group_members(leader.pid, tmp_path)) == 2)
    leader.send(signal.SIGKILL)
    assert leader.wait(10)
    assert len(processes.group_members(leader.pid, tmp_path)) == 1
    assert processes.kill_group(leader, tmp_path)
    assert processes.group_members(leader.pid, tmp_path) == []


def test_nobody(tmp_path: Path) -> None:
    """A number that nobody has is nobody's."""
    gone = start(tmp_path, (sys.executable, "-S", "-c", ""))
    assert gone.wait(10)
    assert ProcessId.of(gone.pid) is None
    assert processes.command_line(gone.pid) == []
    assert processes.environment_of(gone.pid) == {}
    assert not processes.belongs_to(gone.pid, tmp_path)
    assert ProcessId.of(os.getpid()) is not None
