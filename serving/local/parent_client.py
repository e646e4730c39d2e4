"""Make sure that a home has an engine parent: start it detached, wait until it answers, say why when it does not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from serving.files import file_lock
from serving.local import log_files
from serving.local.daemons import core_env
from serving.local.engine_host import engine_host, has_cpu_build
from serving.local.errors import EngineError
from serving.local.lock_file import lock_holder
from serving.local.parent_protocol import PROTOCOL, ParentConnection, ParentError
from serving.local.processes import ProcessId, spawn_detached
from serving.settings import NexusSettings

PARENT_TIMEOUT_SECONDS = 240.0  # four times the slowest import seen (FACTS, section 2: 64 s)
_POLL_SECONDS = 0.1
_SAY_SECONDS = 2.0
_LOCK_SECONDS = 15.0  # an interpreter's start on a busy machine
_STOP_SECONDS = 5.0


def parent_log(settings: NexusSettings) -> Path:
    """Log of the engine parent."""
    return settings.log_dir / "engine-parent.log"


def parent_lock(settings: NexusSettings) -> Path:
    """Lock that the engine parent of a home holds."""
    return settings.run_dir / "engine-parent.lock"


def ensure_parent(
    settings: NexusSettings,
    say: Callable[[str], None] = lambda _: None,
    timeout_seconds: float = PARENT_TIMEOUT_SECONDS,
) -> None:
    """Return when the home has an engine parent that answers; starts one where there is none.

    Args:
        settings: Settings of this home.
        say: Told every two seconds how long the import has taken.
        timeout_seconds: Limit on the whole wait.

    Raises:
        EngineError: It died, or did not answer in time; with its last log lines.
    """
    begin = said = time.monotonic()
    started: ProcessId | None = None
    while not parent_answers(settings):
        now = time.monotonic()
        if lock_holder(parent_lock(settings)) is None:
            if started is not None and not started.alive():
                raise EngineError(log_files.with_tail("the engine parent died while starting", parent_log(settings)))
            started = started or start_parent(settings)
        if now - begin > timeout_seconds:
            message = f"expected the engine parent to answer within {timeout_seconds:.0f} s; it did not"
            raise EngineError(log_files.with_tail(message, parent_log(settings)))
        if now - said >= _SAY_SECONDS:
            said = now
            say(f"importing the engine once, {now - begin:.0f} s")
        time.sleep(_POLL_SECONDS)


def parent_answers(settings: NexusSettings) -> bool:
    """Return whether a parent that speaks our protocol and fits our engine environment answers; another one is ended.

    The persistent engines of an ended one live on.
    """
    try:
        with ParentConnection(settings.home) as connection:
            answer = connection.ask({"op": "ping"})
    except ParentError:
        return False
    wanted = {"protocol": PROTOCOL, "warm": has_cpu_build(settings)}
    if {key: answer.get(key) for key in wanted} == wanted:
        return True
    process = ProcessId.of(int(answer["pid"]))
    if process is not None:
        process.send(signal.SIGTERM)
        process.wait(_STOP_SECONDS)
    return False


def start_parent(settings: NexusSettings) -> ProcessId | None:
    """Start a parent detached, unless another process does just that; it answers once its imports are done.

    Returns:
        The started process, or None when the home has got a parent meanwhile.

    Raises:
        EngineError: The engine environment is missing, or its interpreter does not start.
    """
    host = engine_host(settings)
    log = parent_log(settings)
    # -P: the working folder is a home full of data, never a place to import from.
    argv = [str(host.python), "-P", "-m", "serving.local.engine_parent", "--home", str(settings.home)]
    with file_lock(settings.run_dir / "engine-parent.start"):
        if lock_holder(parent_lock(settings)) is not None:
            return None
        log_files.start_fresh(log)
        try:
            process = spawn_detached([*argv, "--warm"] if has_cpu_build(settings) else argv, core_env(settings), log)
        except OSError as exc:
            raise EngineError(f"expected {host.python} to start; got {exc.strerror}: run `make install`") from exc
        deadline = time.monotonic() + _LOCK_SECONDS
        while process.alive() and lock_holder(parent_lock(settings)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    return process
