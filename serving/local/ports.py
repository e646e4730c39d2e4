"""TCP ports of the loopback address: a free one for an engine, and who has a taken one."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from serving.local.errors import NodeError
from serving.local.processes import all_pids, command_line

# Below Linux' ephemeral range (32768 up), so that no outgoing connection takes one between choice and bind.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """Choose a free port for an engine.

    Raises:
        NodeError: None was found.
    """
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST, _LAST)
        if port not in taken and is_free(port):
            return port
    raise NodeError(f"expected a free port in {_FIRST}-{_LAST}; {_ATTEMPTS} random ones were taken")


def owner(port: int) -> str:
    """Say who listens on a port, for an error message."""
    pid = owner_pid(port)
    if pid is None:
        return "a process that this user cannot see"
    return f"process {pid} ({' '.join(command_line(pid))[:120]})"


def owner_pid(port: int) -> int | None:
    """Return the number of a process that listens on a port; None when there is none, or it is another user's."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return next((pid for pid in all_pids() if wanted and not wanted.isdisjoint(_open_files(pid))), None)


def _open_files(pid: int) -> Iterator[str]:
    """List what a process has open; what closes meanwhile, and other users' processes, are left out."""
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for link in links:
        with contextlib.suppress(OSError):
            yield str(link.readlink())


def _listening_inodes(port: int) -> list[str]:
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:  # 0A is LISTEN (net/tcp_states.h)
                inodes.append(fields[9])
    return inodes
