"""Processes of one home: identify, start detached, stop, find by the `NEXUS_HOME` in their environment.

Standard library only: the engine parent imports this under the engine's environment. Linux only (`/proc`, pidfd).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "NEXUS_HOME"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.02
_EXEC_SECONDS = 1.0  # microseconds on an idle machine


@dataclass(frozen=True)
class ProcessId:
    """One process, told apart from a later one with the same number.

    Attributes:
        pid: Process number.
        start_time: Clock ticks from boot to its start, field 22 of `/proc/<pid>/stat`.
    """

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Identify a running process; None when there is none of that number, or only a zombie."""
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not. Reaps it where it is our own child."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to exactly this process; False when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError):
            return False
        try:
            # The descriptor holds the number: what is checked is what gets the signal.
            if ProcessId.of(self.pid) != self:
                return False
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until it is gone; False when it still runs after that many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _stat(pid: int) -> list[str] | None:
    """Read `/proc/<pid>/stat` from its third field (state) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def spawn_detached(argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> ProcessId:
    """Start a process in a session of its own: no terminal, closed stdin, output appended to a log file.

    Raises:
        OSError: The program could not be started.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(env),
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE],
    )
    _wait_for_environment(pid)
    fields = _stat(pid)
    return ProcessId(pid, int(fields[19]) if fields else 0)


def _wait_for_environment(pid: int) -> None:
    """Wait until a new process shows its environment.

    The kernel lets the parent go on when exec has dropped the old memory, a moment before the new environment can be
    read; a look in between would not know the process as ours.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/environ").read_bytes() or (_stat(pid) or ["Z"])[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.001)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when the thread that forked it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def all_pids() -> Iterator[int]:
    """List the numbers of all processes that can be seen."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def command_line(pid: int) -> list[str]:
    """Return the argument vector of a process; empty when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0")[:-1]]


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty when it is gone or another user's."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (part.decode(errors="replace").partition("=") for part in raw.split(b"\0") if b"=" in part)
    return {name: value for name, _, value in pairs}


def belongs_to(pid: int, home: Path) -> bool:
    """Return whether a process was started with `NEXUS_HOME` set to this home (its forks count too).

    A process that wrote its title over its environment, as vLLM's do, is known by its working folder.
    """
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        if raw.startswith(b"\0"):
            return Path(f"/proc/{pid}/cwd").readlink() == home
    except OSError:
        return False
    return f"{HOME_VARIABLE}={home}".encode() in raw.split(b"\0")


def processes_of_home(home: Path) -> list[ProcessId]:
    """List running processes of a home, without this one and its ancestors."""
    skip = set(_ancestors())
    found = (ProcessId.of(pid) for pid in all_pids() if pid not in skip and belongs_to(pid, home))
    return [process for process in found if process is not None]


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0


def group_of(pid: int) -> int | None:
    """Return the process group of a process; None when it is gone."""
    fields = _stat(pid)
    return int(fields[2]) if fields is not None else None


def group_members(leader: int, home: Path) -> list[ProcessId]:
    """List running processes of the group that `leader` made and that belong to a home; the leader may be gone."""
    members = []
    for pid in all_pids():
        fields = _stat(pid)
        if fields is not None and int(fields[2]) == leader and belongs_to(pid, home):
            process = ProcessId.of(pid)
            members += [process] if process is not None else []
    return members


def kill_group(leader: ProcessId, home: Path, seconds: float = 5.0) -> bool:
    """Kill every process of the group that `leader` made; False when one still runs after that many seconds."""
    present = ProcessId.of(leader.pid)
    if present is not None and present != leader:
        return True  # the number went to somebody else, which the kernel allows once nothing of the group is left
    if present is not None:
        present.send(signal.SIGKILL)  # by itself: one that was forked just now has not made its group yet
    deadline = time.monotonic() + seconds
    while members := group_members(leader.pid, home):
        for member in members:
            member.send(signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
