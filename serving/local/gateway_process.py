"""Keeps the gateway running: starts it, takes over an earlier reconciler's, restarts a dead or hung one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from serving.local import log_files, ports, probe
from serving.local.daemons import core_env
from serving.local.gateway_config import GatewayConfig
from serving.local.processes import ProcessId, command_line, environment_of, processes_of_home, spawn_detached
from serving.settings import NexusSettings

PORT_TAKEN = "expected port"  # how the problem of a taken port begins

_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 5.0
_WATCH_SECONDS = 0.5  # the gateway looks at its files every 0.1 s, and up to three times at one that was just written
_HUNG_SECONDS = 20.0  # no answer to /health/ready for this long; a start takes 0.6 s, on a busy machine ten times that
_MAX_BACKOFF_SECONDS = 30.0
_STEADY_SECONDS = 30.0
_PORT_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class GatewayHealth:
    """What `/health/ready` says."""

    ready: bool
    revision: str | None
    reasons: tuple[str, ...]


class GatewayProcess:
    """The gateway of one home. `step` is called every round and never waits."""

    def __init__(self, settings: NexusSettings, argv: Sequence[str], executor: Executor) -> None:
        self._settings = settings
        self._argv = list(argv)
        self._executor = executor
        self._process: ProcessId | None = None
        self._future: Future[GatewayHealth | None] | None = None
        self._health: GatewayHealth | None = None
        self._problem: str | None = None
        self._look_at = self._try_at = self._started = self._answered = self._asked_at = self._health_at = 0.0
        self._failures = 0
        self.log_path = settings.log_dir / "gateway.log"

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self._settings.gateway_port}"

    @property
    def revision(self) -> str | None:
        """Commit whose documents it answers by; None while it does not answer."""
        return self._health.revision if self._health is not None else None

    def has_read(self, revision: str | None, changed_at: float) -> bool:
        """Return whether it answers by a revision and by endpoints that changed at a time of the monotonic clock."""
        seen = self._health_at > changed_at + _WATCH_SECONDS
        return self._health is not None and seen and self._health.revision == revision

    @property
    def problems(self) -> list[str]:
        """Why it is not as it should be."""
        own = [self._problem] if self._problem else []
        return [f"gateway: {reason}" for reason in (*own, *(self._health.reasons if self._health else ()))]

    def step(self) -> None:
        """Start, adopt, look at or restart it, whichever is due."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._try_at:
                self._start(now)
            return
        if not self._process.alive():
            self._lost(now, "it died; starting it again")
        else:
            self._look(now)

    def _start(self, now: float) -> None:
        adopted = self._running()
        if adopted is None:
            port = self._settings.gateway_port
            if not ports.is_free(port):
                self._problem = (
                    f"{PORT_TAKEN} {port} free; {ports.owner(port)} has it: stop that, or set NEXUS_GATEWAY_PORT"
                )
                self._try_at = now + _PORT_RETRY_SECONDS
                return
            log_files.start_fresh(self.log_path)
            adopted = spawn_detached(self._argv, self._env(), self.log_path)
        self._process = adopted
        self._started = self._answered = now
        self._look_at = now

    def _look(self, now: float) -> None:
        if self._future is None and now >= self._look_at:
            self._asked_at = now
            self._future = self._executor.submit(self._ask)
        if self._future is None or not self._future.done():
            return
        health, self._future = self._future.result(), None
        self._health_at = self._asked_at
        self._look_at = now + _LOOK_SECONDS
        self._health = health
        if health is not None:
            self._answered, self._problem = now, None
            if now - self._started > _STEADY_SECONDS:
                self._failures = 0
        elif now - self._answered > _HUNG_SECONDS and self._process is not None:
            self._process.send(signal.SIGKILL)
            self._process.wait(1.0)
            self._lost(now, f"it did not answer for {_HUNG_SECONDS:g} s; starting it again")

    def _lost(self, now: float, reason: str) -> None:
        self._process, self._future, self._health = None, None, None
        self._problem = log_files.with_tail(reason, self.log_path)
        self._try_at = now + (min(_MAX_BACKOFF_SECONDS, 0.25 * 2.0**self._failures) if self._failures else 0.0)
        self._failures += 1

    def _ask(self) -> GatewayHealth | None:
        status, text = probe.get(self.url, "/health/ready", _ANSWER_SECONDS)
        if status not in (200, 503):
            return None
        try:
            answer = json.loads(text)
            reasons = tuple(str(reason) for reason in answer.get("reasons") or ())
            return GatewayHealth(bool(answer["ready"]), answer.get("revision"), reasons)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _running(self) -> ProcessId | None:
        """Find the gateway of this home that runs with the settings of this process; one with others is ended."""
        wanted = self._gateway_env()
        for process in processes_of_home(self._settings.home):
            if command_line(process.pid)[: len(self._argv)] != self._argv:
                continue
            environment = environment_of(process.pid)
            if all(environment.get(name) == value for name, value in wanted.items()):
                return process
            process.send(signal.SIGTERM)
            if not process.wait(_ANSWER_SECONDS):
                process.send(signal.SIGKILL)
                process.wait(1.0)
        return None

    def _gateway_env(self) -> Mapping[str, str]:
        config = GatewayConfig(self._settings.run_dir)
        paths: Mapping[str, Path] = {
            "NEXUS_GATEWAY_POLICY_DIR": config.current,
            "NEXUS_GATEWAY_ENDPOINTS_FILE": config.endpoints_file,
            "NEXUS_GATEWAY_SPOOL_DIR": self._settings.spool_dir / "observations",
        }
        port = str(self._settings.gateway_port)
        return {"NEXUS_GATEWAY_PORT": port, **{name: str(path) for name, path in paths.items()}}

    def _env(self) -> dict[str, str]:
        return core_env(self._settings, **self._gateway_env())
