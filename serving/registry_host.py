"""One warm registry process a pipeline run: MLflow is imported beside the first steps instead of inside later ones.

Importing MLflow and opening its database takes 5 s of a core, and two or three steps of a release need it. The run's
own process starts a host; steps call it (`open_registry`) through a socket whose name and key stand in
`run/registry-host.json`. A host that is gone costs time and nothing else: the step does the call itself, and every
call may be done twice. The host ends when the process that started it does, however that one ends.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Final, Protocol

from serving.files import write_atomic
from serving.registry import RegisteredVersion, Registry, VersionContent
from serving.settings import NexusSettings, inherited_environment

_FILE: Final = "registry-host.json"
_NICENESS: Final = 5
"""Below the step that runs beside its import: on two cores the step is what a person waits for."""
_METHODS: Final = frozenset({"register", "resolve", "fetch", "set_alias", "drop_alias", "tag", "log_document"})
_GONE: Final = (EOFError, OSError, ValueError, KeyError, AuthenticationError)
"""How a host shows that it is not there: no file, half a file, nobody at the socket, gone in the middle of a call."""


class RegistryCalls(Protocol):
    """What steps ask of the registry; see `serving.registry.Registry`."""

    def register(self, content: VersionContent) -> RegisteredVersion:
        """Register a version."""

    def resolve(self, uri: str) -> RegisteredVersion:
        """Find a version."""

    def fetch(self, uri: str, output: Path) -> RegisteredVersion:
        """Copy a version's weights."""

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a version."""

    def drop_alias(self, model: str, alias: str, version: str) -> None:
        """Take an alias away from a version."""

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Write tags on a version."""

    def log_document(self, run_id: str, name: str, text: str) -> None:
        """Keep a document beside a run's weights."""


class _HostedRegistry:
    """Calls the host, or this process's own registry when the host is not there."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings
        self._own = Registry(settings)

    def __getattr__(self, method: str) -> Any:
        if method not in _METHODS:
            raise AttributeError(method)

        def call(*arguments: Any) -> Any:
            try:
                answer = self._ask(method, arguments)
            except _GONE:
                return getattr(self._own, method)(*arguments)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        place = json.loads((self._settings.run_dir / _FILE).read_text())
        with Client(f"\0{place['name']}", family="AF_UNIX", authkey=bytes.fromhex(place["key"])) as connection:
            connection.send((method, arguments))
            return connection.recv()


def open_registry(settings: NexusSettings) -> RegistryCalls:
    """Return the registry: the warm host's where one runs, else one of this process."""
    return _HostedRegistry(settings)


@contextmanager
def registry_host(settings: NexusSettings, log: Path) -> Iterator[None]:
    """Run a host while the block runs; its output goes to `log`."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "serving.registry_host"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=inherited_environment(),
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def main() -> None:
    """Serve registry calls until standard input ends."""
    os.nice(_NICENESS)
    settings = NexusSettings.load()
    place = settings.run_dir / _FILE
    threading.Thread(target=_end_with_parent, args=(place,), daemon=True).start()
    key = secrets.token_bytes(32)
    name = f"nexus-registry-{os.getpid()}-{secrets.token_hex(8)}"
    registry = Registry(settings)
    with Listener(f"\0{name}", family="AF_UNIX", authkey=key) as listener:
        write_atomic(place, json.dumps({"name": name, "key": key.hex(), "pid": os.getpid()}))
        registry.warm().join()
        while True:
            with suppress(EOFError, OSError, AuthenticationError), listener.accept() as connection:
                _answer(registry, connection)


def _answer(registry: Registry, connection: Connection) -> None:
    method, arguments = connection.recv()
    try:
        result = getattr(registry, method)(*arguments) if method in _METHODS else AttributeError(method)
    except Exception as exc:  # noqa: BLE001 - raised again in the process that asked
        result = exc
    connection.send(result)


def _end_with_parent(place: Path) -> None:
    sys.stdin.buffer.read()
    with suppress(OSError, ValueError):
        if json.loads(place.read_text())["pid"] == os.getpid():
            place.unlink()
    os._exit(0)


if __name__ == "__main__":
    main()
