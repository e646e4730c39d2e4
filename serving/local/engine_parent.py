"""Engine parent: starts every engine of a home, by forking its own imports (warm) or by starting a program (cold).

One process, one thread: a fork must not lose threads. Its state is its children; killed at any moment, leased engines
die with it and persistent ones live on, known by the identity file that each one wrote before anything else.
Standard library only, besides `warm_vllm`: it runs under the engine's environment.
"""

from __future__ import annotations

import argparse
import gc
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

from serving.local import engine_process, warm_vllm
from serving.local.lock_file import LockFile
from serving.local.parent_clients import Client, remove_files
from serving.local.parent_protocol import PROTOCOL, ParentError, StartRequest, short_address, socket_path
from serving.local.processes import HOME_VARIABLE

BUSY_EXIT = 75  # EX_TEMPFAIL: another parent serves this home
_KEPT_EXITS = 256


class EngineParent:
    """The server. `run` returns None when it was told to end, and the request to serve in a forked child."""

    def __init__(self, home: Path, warm: bool) -> None:
        self._home = home
        self._warm = warm
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wake, self._waker = socket.socketpair()
        self._clients: set[Client] = set()
        self._engines: dict[str, tuple[int, StartRequest]] = {}
        self._exits: dict[str, int] = {}
        self._stopping = False

    def open(self) -> None:
        """Listen, and hear about ended children and about SIGTERM."""
        path = socket_path(self._home)
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            with short_address(path) as address:
                self._listener.bind(address)
        finally:
            os.umask(mask)
        self._listener.listen(64)
        for end in (self._listener, self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def run(self) -> StartRequest | None:
        """Serve until SIGTERM (None), or until this process is a child that has an engine to become."""
        while not self._stopping:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake:
                    self._drain_wake()
                    self._reap()
                elif isinstance(key.data, Client) and (request := self._serve(key.data)) is not None:
                    return request
        for client in list(self._clients):
            self._drop(client)
        socket_path(self._home).unlink(missing_ok=True)
        return None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: Client) -> StartRequest | None:
        """Answer what a client has sent; returns a request in the child that must become its engine."""
        messages = client.receive()
        if messages is None:
            self._drop(client)
            return None
        for message in messages:
            if message.get("op") != "start":
                client.send(self._answer(message.get("op")))
                continue
            try:
                request = StartRequest.parse(message)
                pid = self._start(client, request)
            except (ParentError, OSError) as exc:
                client.send({"error": str(exc)})
                continue
            if pid == 0:
                return request
            client.send({"pid": pid})
        return None

    def _answer(self, operation: object) -> dict[str, object]:
        if operation == "list":
            return {"engines": {token: pid for token, (pid, _) in self._engines.items()}, "exits": self._exits}
        if operation == "ping":
            return {"pid": os.getpid(), "protocol": PROTOCOL, "warm": self._warm, "python": sys.executable}
        return {"error": f"expected op ping, list or start; got {operation!r}"}

    def _start(self, client: Client, request: StartRequest) -> int:
        """Fork one engine; returns its number, and 0 in the child."""
        if request.token in self._engines:
            return self._engines[request.token][0]
        if request.warm and not self._warm:
            raise ParentError("expected a parent that imported vLLM; this one started cold")
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._leave()
            engine_process.become_engine(request, parent)
            return 0
        self._engines[request.token] = (pid, request)
        if request.lease:
            client.leases.add(request.token)
        return pid

    def _leave(self) -> None:
        """In a child: let go of everything that is the parent's."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for client in self._clients:
            client.connection.close()
        for end in (self._listener, self._wake, self._waker):
            end.close()
        self._selector.close()

    def _drop(self, client: Client) -> None:
        """Forget a client and kill what it had leased."""
        self._selector.unregister(client.connection)
        self._clients.discard(client)
        client.connection.close()
        for token in client.leases:
            if token in self._engines:
                _kill_group(self._engines[token][0])

    def _drain_wake(self) -> None:
        while True:
            try:
                if not self._wake.recv(4096):
                    return
            except BlockingIOError:
                return

    def _reap(self) -> None:
        """Take the exit of every ended engine; what is left of its group is killed while its number is still held."""
        for token, (pid, request) in list(self._engines.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            del self._engines[token]
            self._exits[token] = os.waitstatus_to_exitcode(status)
            while len(self._exits) > _KEPT_EXITS:
                del self._exits[next(iter(self._exits))]
            remove_files(request)

    def _stop(self, *_: object) -> None:
        self._stopping = True


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        # The child has not reached setsid yet, or nothing is left of the group.
        os.kill(leader, signal.SIGKILL)


def main() -> int:
    """Serve one home: `python -P -m serving.local.engine_parent --home HOME [--warm]`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--warm", action="store_true")
    arguments = options.parse_args()
    home: Path = arguments.home.resolve()
    (home / "run").mkdir(parents=True, exist_ok=True)
    lock = LockFile(home / "run" / "engine-parent.lock")
    if not lock.acquire():
        return BUSY_EXIT
    os.chdir(home)
    started = time.monotonic()
    os.environ[HOME_VARIABLE] = str(home)  # noqa: TID251 - inherited by every engine, marks it as this home's
    if arguments.warm:
        os.environ.update(warm_vllm.IMPORT_ENV)  # noqa: TID251 - read by the imports
        warm_vllm.import_engine(lambda text: print(f"{time.monotonic() - started:.1f} s {text}", flush=True))
    gc.collect()
    gc.freeze()  # a collection in a fork would write to, and so copy, every page of these objects
    parent = EngineParent(home, arguments.warm)
    parent.open()
    print(f"{time.monotonic() - started:.1f} s ready", flush=True)
    request = parent.run()
    if request is None:
        return 0
    lock.close()
    if request.warm:
        warm_vllm.serve(request.argv[3:])
        return 0
    engine_process.replace_image(request)
    return 1


if __name__ == "__main__":
    sys.exit(main())
