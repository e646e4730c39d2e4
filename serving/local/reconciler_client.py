"""Make sure that a home has a reconciler, running with the settings of this process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from serving.files import file_lock
from serving.local import log_files
from serving.local.daemons import core_env
from serving.local.errors import NodeError
from serving.local.lock_file import lock_holder
from serving.local.processes import ProcessId, environment_of, spawn_detached
from serving.settings import NexusSettings

_STOP_SECONDS = 10.0
_LOCK_SECONDS = 60.0  # importing takes a second, on a busy machine many times that
_POLL_SECONDS = 0.05
_HARMLESS = frozenset(
    {
        "NEXUS_HOME",
        "NEXUS_PROFILE",
        "NEXUS_ENVIRONMENT",
        "NEXUS_GATEWAY_PORT",
        "NEXUS_GATEWAY_ADMIN_PORT",
        "NEXUS_ENGINE_THREADS",
    }
)


def reconciler_log(settings: NexusSettings) -> Path:
    """Log of the reconciler."""
    return settings.log_dir / "reconciler.log"


def reconciler_runs(settings: NexusSettings) -> int | None:
    """Return the process number of the home's reconciler; None when there is none."""
    return lock_holder(settings.run_dir / "reconciler.lock")


def ensure_reconciler(settings: NexusSettings) -> None:
    """Start a reconciler where there is none.

    Raises:
        NodeError: It ended while starting, with its last log lines; or one runs with other settings.
    """
    if _runs_with(settings):
        return
    with file_lock(settings.run_dir / "reconciler.start"):
        if _runs_with(settings):
            return
        log_files.start_fresh(reconciler_log(settings))
        # -P: the working folder is never a place to import from.
        argv = [sys.executable, "-P", "-m", "serving.local.reconciler"]
        process = spawn_detached(argv, core_env(settings), reconciler_log(settings))
        deadline = time.monotonic() + _LOCK_SECONDS
        while reconciler_runs(settings) is None:
            if not process.alive() or time.monotonic() > deadline:
                raise NodeError(log_files.with_tail("the reconciler did not start", reconciler_log(settings)))
            time.sleep(_POLL_SECONDS)


def stop_reconciler(settings: NexusSettings) -> None:
    """End the home's reconciler; nothing it looks after is touched."""
    holder = reconciler_runs(settings)
    process = ProcessId.of(holder) if holder is not None else None
    if process is not None and process.pid != os.getpid():
        process.send(signal.SIGTERM)
        if not process.wait(_STOP_SECONDS):
            process.send(signal.SIGKILL)
            process.wait(_STOP_SECONDS)


def _runs_with(settings: NexusSettings) -> bool:
    """Return whether a reconciler runs; one with other settings is left alone, for whoever started it relies on it.

    Raises:
        NodeError: It runs with other settings.
    """
    holder = reconciler_runs(settings)
    running = _settings_in(environment_of(holder)) if holder is not None else {}
    wanted = _settings_in(core_env(settings))
    if not running or running == wanted:
        return holder is not None
    names = sorted(name for name in running.keys() | wanted.keys() if running.get(name) != wanted.get(name))
    theirs, ours = (", ".join(_shown(name, values.get(name)) for name in names) for values in (running, wanted))
    raise NodeError(
        f"expected the settings that the node of {settings.home} runs with ({theirs}); got {ours}: "
        "use those, or run `nexus down` first"
    )


def _shown(name: str, value: str | None) -> str:
    """Write a setting; only those are shown in full that can hold no secret."""
    if value is None:
        return f"no {name}"
    return f"{name}={value}" if name in _HARMLESS else f"another {name}"


def _settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("NEXUS_")}
