"""The provider adapter of a home, which calls external providers for its gateway: LiteLLM in an environment of its own.

It runs while a route names a provider's model and the home has a document of providers, unless the settings name the
socket of another adapter.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from serving.contracts.node_status import ProcessStatus
from serving.local.daemons import core_env
from serving.local.errors import NodeError
from serving.local.processes import ProcessId, command_line, environment_of, processes_of_home
from serving.local.socket_path import socket_path
from serving.local.supervised import Supervised
from serving.settings import NexusSettings

_ANSWER_SECONDS: Final = 2.0
_NEW_SOCKET: Final = "..new"
"""What the adapter adds to its socket's name while it makes it (`gateway.adapter.__main__.listen`)."""

_NO_DOCUMENT: Final = (
    "expected the providers that routes name in {path}; there is no such file: write it, see External providers in "
    "docs/guides/gateway.md"
)
_ARGUMENTS: Final = ["-P", "-m", "gateway.adapter"]
_DIGEST: Final = "NEXUS_PROVIDERS_DIGEST"
"""Variable that tells which document an adapter was started with."""


def adapter_socket(settings: NexusSettings) -> Path:
    """Return where this home's adapter listens.

    Raises:
        EngineError: The temporary folder is another user's.
    """
    return socket_path(settings, "adapter.sock", room=len(_NEW_SOCKET))


class AdapterProcess(Supervised[tuple[str, ...]]):
    """The provider adapter of one home; it answers which providers cannot be called, and why.

    `keep` is called every round instead of `step`.
    """

    def __init__(self, settings: NexusSettings, executor: Executor) -> None:
        super().__init__(settings, settings.log_dir / "adapter.log", executor)
        self._document = settings.home / "providers.yaml"
        self._wanted: bool | None = None

    def keep(self, *, named: bool) -> None:
        """Have it running, with the present document, or not running.

        Args:
            named: Whether a route names a provider's model.
        """
        self.look_after_retired()
        wanted = named and self._document.exists()
        if wanted:
            self._keep_running()
        else:
            if self._wanted is not False:
                self._retire_all()
            self.problem = _NO_DOCUMENT.format(path=self._document) if named else None
        self._wanted = wanted

    def _keep_running(self) -> None:
        try:
            if self.process is not None and self.process.alive() and not self._has_document(self.process):
                self.retire(self.process)  # it lets calls in flight finish
            self.step()
        except OSError as exc:
            self.problem = f"expected to read {self._document}; got {exc}"

    def _retire_all(self) -> None:
        """Have it end, and one that an earlier reconciler has started."""
        for process in processes_of_home(self.settings.home):
            if self.is_mine(command_line(process.pid)):
                self.retire(process)
        self.process = self.answer = None

    def status(self) -> ProcessStatus | None:
        """Say how it is; None while none is wanted."""
        if not self._wanted:
            return None
        return ProcessStatus(pid=self.process.pid if self.process is not None else None, ready=self.answer is not None)

    @property
    def problems(self) -> list[str]:
        """Why it is not as it should be."""
        own = [self.problem] if self.problem else []
        return [f"adapter: {reason}" for reason in (*own, *(self.answer or ()))]

    def argv(self) -> Sequence[str]:
        """Return the command."""
        python = self.settings.environment_dir("provider") / "bin" / "python"
        if not python.exists():
            raise NodeError(
                f"expected the provider environment at {python.parent.parent}; got none: run `nexus install provider`"
            )
        return [str(python), *_ARGUMENTS]

    def env(self) -> Mapping[str, str]:
        """Return its environment: what `nexus up` was called with, providers' keys among it, and no gateway secret."""
        own = {
            "NEXUS_ADAPTER_SOCKET": str(adapter_socket(self.settings)),
            "NEXUS_ADAPTER_PROVIDERS_FILE": str(self._document),
            _DIGEST: self._digest(),
        }
        inherited = core_env(self.settings, **own)
        return {name: value for name, value in inherited.items() if not name.startswith("NEXUS_GATEWAY_")}

    def is_mine(self, command: Sequence[str]) -> bool:
        """Tell whether it is an adapter."""
        return list(command[1:]) == _ARGUMENTS

    def is_current(self, process: ProcessId) -> bool:
        """Tell whether it was started with the present document, and listens where the gateway asks."""
        socket_of_process = environment_of(process.pid).get("NEXUS_ADAPTER_SOCKET")
        return self._has_document(process) and socket_of_process == str(adapter_socket(self.settings))

    def ask(self) -> tuple[str, ...] | None:
        """Ask for its readiness."""
        connection = _UnixConnection(adapter_socket(self.settings))
        try:
            connection.request("GET", "/health/ready")
            answer = json.loads(connection.getresponse().read())
            return tuple(map(str, answer["reasons"]))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        finally:
            connection.close()

    def _has_document(self, process: ProcessId) -> bool:
        return environment_of(process.pid).get(_DIGEST) == self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(self._document.read_bytes()).hexdigest()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("adapter", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ANSWER_SECONDS)
        self.sock.connect(str(self._path))
