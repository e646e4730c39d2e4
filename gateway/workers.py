"""Several workers on one port: a parent that opens their sockets, starts them, replaces them, and stops them.

Each worker accepts on an SO_REUSEPORT socket of its own, and the parent keeps that socket open for as long as it lives.
So a connection that the kernel gave to a worker which dies or is replaced waits in the socket's queue for the next one
instead of being reset: `kill -9` of a worker costs its own requests in flight and nothing else, and a rolling restart
(SIGHUP) costs none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from gateway.server import listen
from gateway.settings import GatewaySettings

READY: Final = b"r"
"""What a worker writes to its control socket once it accepts connections; its end tells either side of the other's."""

_MAX_NAME_BYTES: Final = 100

_START_SECONDS: Final = 60.0
_MAX_BACKOFF_SECONDS: Final = 10.0
_HEALTHY_SECONDS: Final = 10.0
"""A worker that lived this long is replaced at once; one that dies younger is waited for, longer each time."""

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    gateway: str
    index: int
    sock: socket.socket
    process: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = field(default=0.0)

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.sendall(self.gateway.encode())  # argv would show it to every user of this machine before it is taken
        argv = [
            sys.executable,
            *(["-P"] if sys.flags.safe_path else []),  # else a worker in a clone would not be the compiled gateway
            "-m",
            "gateway",
            "--worker",
            *map(str, (self.index, self.sock.fileno(), theirs.fileno())),
        ]
        with theirs:
            self.process = subprocess.Popen(argv, pass_fds=(self.sock.fileno(), theirs.fileno()))
        self.control, self.started = ours, time.monotonic()

    def wait_ready(self) -> bool:
        """Wait until it accepts connections; False when it ended or took too long."""
        assert self.control is not None
        readable, _, _ = select.select([self.control], [], [], _START_SECONDS)
        return bool(readable) and self.control.recv(1) == READY

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def reap(self, seconds: float) -> None:
        """Wait for its end, and enforce it when the time is over."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.control is not None:
            self.control.close()


def run_workers(settings: GatewaySettings) -> int:
    """Run `settings.workers` workers until SIGTERM or SIGINT; returns the process's exit code.

    Raises:
        ListenError: The address cannot be listened on.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    name = f"nexus-gateway-{secrets.token_hex(8)}"
    sockets = [listen(settings.host, settings.port, shared=True) for _ in range(settings.workers)]
    workers = [_Worker(name, index, sock) for index, sock in enumerate(sockets)]
    grace = settings.stop_seconds
    try:
        for worker in workers:
            worker.start()
        while (got := signal.sigtimedwait(_SIGNALS, _pause(workers))) is None or got.si_signo not in {
            signal.SIGTERM,
            signal.SIGINT,
        }:
            if got is not None and got.si_signo == signal.SIGHUP:
                _replace_all(workers, grace)
            _restart_dead(workers)
    finally:
        for worker in workers:
            worker.signal(signal.SIGTERM)
        for worker in workers:
            worker.reap(grace)
            worker.sock.close()
    return 0


def _pause(workers: list[_Worker]) -> float:
    """Return the seconds until the next worker is due."""
    due = [worker.start_at for worker in workers if worker.start_at]
    return max(0.0, min(due) - time.monotonic()) if due else 3600.0


def _restart_dead(workers: list[_Worker]) -> None:
    now = time.monotonic()
    for worker in workers:
        if worker.start_at:
            if now >= worker.start_at:
                worker.start_at = 0.0
                worker.start()
        elif worker.process is not None and worker.process.poll() is not None:
            code = worker.process.returncode
            worker.reap(0)
            worker.failures = 0 if now - worker.started > _HEALTHY_SECONDS else worker.failures + 1
            delay = min(_MAX_BACKOFF_SECONDS, 0.1 * 2**worker.failures) if worker.failures > 1 else 0.0
            worker.start_at = now + delay
            fields = {"worker": worker.index, "exit_code": code, "restart_in_seconds": delay}
            log.error("a worker ended and is replaced", extra={"fields": fields})


def _replace_all(workers: list[_Worker], grace: float) -> None:
    """Replace one worker after the other, each only when its successor accepts connections."""
    for position, worker in enumerate(workers):
        successor = _Worker(worker.gateway, worker.index, worker.sock)
        successor.start()
        if not successor.wait_ready():
            successor.signal(signal.SIGKILL)
            successor.reap(grace)
            log.error("a new worker does not start; the old ones stay", extra={"fields": {"worker": worker.index}})
            return
        worker.signal(signal.SIGTERM)
        worker.reap(grace)
        workers[position] = successor
    log.warning("all workers are replaced", extra={"fields": {"workers": len(workers)}})


def adopt(listen_fd: int, control_fd: int) -> tuple[socket.socket, socket.socket, str]:
    """Take over what the parent gave this worker: the listening socket, the control socket, the gateway's name."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    sock, control = socket.socket(fileno=listen_fd), socket.socket(fileno=control_fd)
    name = control.recv(_MAX_NAME_BYTES).decode()
    sock.setblocking(False)
    control.setblocking(False)
    return sock, control, name


def stop_with_parent(control: socket.socket) -> None:
    """Stop this worker in an orderly way; called when the control socket, which says no more, is readable: it ended."""
    asyncio.get_running_loop().remove_reader(control)
    os.kill(os.getpid(), signal.SIGTERM)
