"""Start engines and wait for them: what the reconciler and the benchmark step call.

An engine is started by the engine parent, which this module starts where there is none. A leased engine ends with the
`with` block or with this process, however that ends; a persistent one stays until it is stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from serving.contracts.release_spec import EngineSettings
from serving.engines.base import EngineArgumentError, EngineCommand, EngineSpec
from serving.engines.registry import build_command
from serving.local import log_files, ports, probe
from serving.local.engine_host import engine_host, scratch_folder, starts_warm
from serving.local.errors import EngineError, NeverReadyError, weights_errors
from serving.local.parent_client import ensure_parent
from serving.local.parent_protocol import ParentConnection, ParentError, StartRequest
from serving.local.processes import ProcessId, kill_group, stop_group
from serving.settings import NexusSettings
from serving.weights_folder import check_folder

__all__ = [
    "EngineHandle",
    "EnginePlan",
    "ensure_parent",
    "leased_engine",
    "plan_engine",
    "start_engine",
    "stop_engine",
    "wait_ready",
]

_PROBE_SECONDS = 20.0  # one token on a slow, busy machine
_POLL_SECONDS = 0.1
_END_SECONDS = 10.0


@dataclass(frozen=True)
class EngineHandle:
    """A started engine.

    Attributes:
        url: Base address, such as `http://127.0.0.1:20123`.
        pid: Process number of its leader.
        start_time: Start of that process in clock ticks from boot; with `pid` it names one process for ever.
        log_path: What it printed.
        home: Home that it belongs to.
    """

    url: str
    pid: int
    start_time: int
    log_path: Path
    home: Path

    @property
    def process(self) -> ProcessId:
        """The leader of its process group."""
        return ProcessId(self.pid, self.start_time)


@dataclass(frozen=True)
class EnginePlan:
    """A start that is decided but not done: what a record keeps, so that a killed reconciler finds the engine again.

    Attributes:
        token: Names this start at the parent; planning it once and starting it twice gives one process.
        port: TCP port on the loopback address.
        command: Argument vector and variables.
        warm: Forked from the parent's imports.
        log_path: File for its output.
        identity_path: File in which the engine says its process number.
        scratch: Folder for its temporary files.
    """

    token: str
    port: int
    command: EngineCommand
    warm: bool
    log_path: Path
    identity_path: Path
    scratch: Path

    @property
    def url(self) -> str:
        """Base address it will answer at."""
        return f"http://127.0.0.1:{self.port}"


def plan_engine(
    settings: NexusSettings,
    *,
    engine: EngineSettings,
    model_path: Path,
    served_name: str,
    log_path: Path,
    token: str | None = None,
    port: int | None = None,
) -> EnginePlan:
    """Decide port, command line and files of one engine; starts nothing.

    Args:
        settings: Settings of this home.
        engine: Engine and its arguments.
        model_path: Hugging Face folder; see `check_folder`.
        served_name: Model name that clients ask for.
        log_path: File for its output.
        token: Name of the start; by default a new one.
        port: Port; by default a free one.

    Raises:
        EngineError: The engine environment is missing, or an argument was refused.
    """
    host = engine_host(settings)
    token = token or uuid4().hex[:12]
    port = port or ports.free_port()
    spec = EngineSpec(engine.name, model_path, served_name, port, engine.arguments, engine.env)
    try:
        command = build_command(spec, host)
    except EngineArgumentError as exc:
        raise EngineError(str(exc)) from exc
    return EnginePlan(
        token=token,
        port=port,
        command=command,
        warm=starts_warm(settings, engine.name),
        log_path=log_path,
        identity_path=settings.run_dir / "engines" / f"{token}.json",
        scratch=scratch_folder(settings) / token,
    )


def start_engine(settings: NexusSettings, plan: EnginePlan, *, lease: ParentConnection | None = None) -> EngineHandle:
    """Have the parent start a planned engine; returns as soon as the process exists.

    Args:
        settings: Settings of this home.
        plan: What to start.
        lease: Connection that the engine ends with; None makes it persistent.

    Raises:
        EngineError: The parent does not answer, or the process ended at once.
    """
    log_files.start_fresh(plan.log_path)
    plan.identity_path.parent.mkdir(parents=True, exist_ok=True)
    request = StartRequest(
        token=plan.token,
        argv=plan.command.argv,
        env=dict(plan.command.env),
        log_path=str(plan.log_path),
        identity_path=str(plan.identity_path),
        scratch=str(plan.scratch),
        lease=lease is not None,
        warm=plan.warm,
    )
    try:
        if lease is not None:
            pid = int(lease.ask(request.message())["pid"])
        else:
            with ParentConnection(settings.home) as connection:
                pid = int(connection.ask(request.message())["pid"])
    except ParentError as exc:
        raise EngineError(str(exc)) from exc
    process = ProcessId.of(pid)
    if process is None:
        raise EngineError(log_files.with_tail("expected a running engine; it ended at once", plan.log_path))
    return EngineHandle(plan.url, pid, process.start_time, plan.log_path, settings.home)


def stop_engine(handle: EngineHandle, drain_seconds: float) -> None:
    """Let an engine finish its requests, then end it and everything it started.

    Args:
        handle: The engine; nothing happens when it is gone.
        drain_seconds: Time from SIGTERM to SIGKILL.
    """
    stop_group(handle.process, handle.home, drain_seconds)


def wait_ready(handle: EngineHandle, served_name: str, timeout_seconds: float) -> None:
    """Wait until an engine has answered a completion.

    Raises:
        EngineError: It died, or did not answer within the time; with its last log lines.
    """
    deadline = time.monotonic() + timeout_seconds
    problem: str | None = "it was not asked yet"
    while (left := deadline - time.monotonic()) > 0:
        if not handle.process.alive():
            message = f"the engine for {served_name!r} died while starting"
            raise EngineError(log_files.with_tail(message, handle.log_path))
        problem = probe.completion_problem(handle.url, served_name, min(_PROBE_SECONDS, left))
        if problem is None:
            return
        time.sleep(_POLL_SECONDS)
    message = f"expected an answer of the engine for {served_name!r} within {timeout_seconds:.0f} s; {problem}"
    raise NeverReadyError(log_files.with_tail(message, handle.log_path))


@contextmanager
def leased_engine(
    settings: NexusSettings,
    *,
    engine: EngineSettings,
    model_path: Path,
    served_name: str,
    log_path: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[EngineHandle]:
    """Serve a model for the length of a `with` block; the engine ends with the block or with this process.

    Args:
        settings: Settings of this home.
        engine: Engine, its arguments, and how long it may take to answer (`ready_timeout_seconds`).
        model_path: Hugging Face folder.
        served_name: Model name that clients ask for.
        log_path: File for the engine's output.
        say: Told what is being waited for.

    Yields:
        An engine that has answered a completion.

    Raises:
        WeightsError: The folder cannot be served.
        EngineError: The engine did not start, with its last log lines.
    """
    with weights_errors():
        check_folder(model_path)
    ensure_parent(settings, say)
    plan = plan_engine(settings, engine=engine, model_path=model_path, served_name=served_name, log_path=log_path)
    try:
        connection = ParentConnection(settings.home)
    except ParentError as exc:
        raise EngineError(str(exc)) from exc
    handle: EngineHandle | None = None
    try:
        handle = start_engine(settings, plan, lease=connection)
        say(f"waiting for the engine of {served_name} (log: {log_path})")
        wait_ready(handle, served_name, engine.ready_timeout_seconds)
        yield handle
    finally:
        connection.close()
        if handle is not None:
            handle.process.wait(_END_SECONDS)
            kill_group(handle.process, settings.home)
