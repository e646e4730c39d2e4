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

from serving.contracts.release_spec import EngineSettings
from serving.local import log_files, probe
from serving.local.engine_plan import EnginePlan, plan_engine
from serving.local.errors import EngineError, NeverReadyError, weights_errors
from serving.local.parent_client import ensure_parent
from serving.local.parent_protocol import ParentConnection, ParentError, StartRequest
from serving.local.processes import ProcessId, kill_group
from serving.settings import NexusSettings
from serving.weights_folder import check_folder

__all__ = [
    "EngineHandle",
    "ensure_parent",
    "exit_code",
    "leased_engine",
    "start_engine",
    "wait_ready",
]

_PROBE_SECONDS = 20.0  # one token on a slow, busy machine
_POLL_SECONDS = 0.1
_END_SECONDS = 10.0
_REAP_SECONDS = 2.0  # the parent hears of an ended child at once


@dataclass(frozen=True)
class EngineHandle:
    """A started engine.

    Attributes:
        url: Base address, such as `http://127.0.0.1:20123`.
        pid: Process number of its leader.
        start_time: Start of that process in clock ticks from boot; with `pid` it names one process for ever.
        log_path: What it printed.
    """

    url: str
    pid: int
    start_time: int
    log_path: Path

    @property
    def process(self) -> ProcessId:
        """The leader of its process group."""
        return ProcessId(self.pid, self.start_time)


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
    return EngineHandle(plan.url, pid, process.start_time, plan.log_path)


def exit_code(settings: NexusSettings, token: str) -> int | None:
    """Return how an engine ended that the running parent had started; None when the parent did not see it end.

    Args:
        settings: Settings of this home.
        token: Name of its start, see `EnginePlan`.
    """
    deadline = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < deadline:
        try:
            with ParentConnection(settings.home, timeout_seconds=_REAP_SECONDS) as connection:
                known = connection.ask({"op": "list"})
        except ParentError:
            return None
        if token in known["exits"]:
            return int(known["exits"][token])
        if token not in known["engines"]:
            return None
        time.sleep(_POLL_SECONDS)
    return None


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
