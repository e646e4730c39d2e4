"""Make sure that a home has a reconciler, running with the settings of this process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from serving.local import log_files
from serving.local.daemons import core_env
from serving.local.errors import NodeError
from serving.local.lock_file import lock_holder, start_lock
from serving.local.processes import ProcessId, environment_of, spawn_detached
from serving.settings import NexusSettings

_STOP_SECONDS = 10.0
_LOCK_SECONDS = 60.0  # importing takes a second, on a busy machine many times that
_POLL_SECONDS = 0.05


def reconciler_log(settings: NexusSettings) -> Path:
    """Log of the reconciler."""
    return settings.log_dir / "reconciler.log"


def reconciler_runs(settings: NexusSettings) -> int | None:
    """Return the process number of the home's reconciler; None when there is none."""
    return lock_holder(settings.run_dir / "reconciler.lock")


def ensure_reconciler(settings: NexusSettings) -> None:
    """Start a reconciler where there is none; one that runs with other settings is replaced. Engines run on.

    Raises:
        NodeError: It ended while starting, with its last log lines.
    """
    holder = reconciler_runs(settings)
    if holder is not None and _same_settings(holder, settings):
        return
    with start_lock(settings.run_dir / "reconciler.start"):
        holder = reconciler_runs(settings)
        if holder is not None and not _same_settings(holder, settings):
            stop_reconciler(settings)
        elif holder is not None:
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


def _same_settings(pid: int, settings: NexusSettings) -> bool:
    running = {name: value for name, value in environment_of(pid).items() if name.startswith("NEXUS_")}
    wanted = {name: value for name, value in core_env(settings).items() if name.startswith("NEXUS_")}
    return running == wanted
