"""Take a node down: everything that runs for a home ends, whoever started it and however it lost its owner."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from serving.files import file_lock
from serving.local import ports
from serving.local.engine_host import scratch_folder
from serving.local.errors import NodeError
from serving.local.processes import ProcessId, belongs_to, command_line, group_of, processes_of_home
from serving.local.reconciler_client import stop_reconciler
from serving.local.service_record import RecordStore
from serving.settings import NexusSettings

_TERM_SECONDS = 10.0
_KILL_SECONDS = 5.0
_PIPELINE = "pipelines.run_local"
_PIPELINE_SECONDS = 15.0  # a step may still have to stop an engine: 10 s
_RELEASE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_LOCKS = (".lock", ".start")  # another program may be waiting for one; a new file would be another lock


def model_lock_path(settings: NexusSettings, model: str) -> Path:
    """Lock that the release of a model holds while it runs."""
    return settings.run_dir / "locks" / f"{model}.lock"


def shut_down(settings: NexusSettings, say: Callable[[str], None]) -> int:
    """Stop running releases, the reconciler and all other processes of the home; remove what they left in `run/`.

    Returns:
        How many processes ran.

    Raises:
        NodeError: A process or a port is still there.
    """
    engine_ports = [record.port for record in RecordStore(settings.run_dir / "services").all()]
    running = len(ours(settings))
    if running:
        say(f"stopping {running} processes of {settings.home}")
    _end_releases(settings, say)
    stop_reconciler(settings)  # before the others, or it would start again what is stopped here
    processes = ours(settings)
    redis = [process for process in processes if _is_redis(process.pid)]
    _end(_leaders([process for process in processes if process not in redis]), signal.SIGTERM, _TERM_SECONDS)
    _end(redis, signal.SIGTERM, _TERM_SECONDS)  # after the gateway, which settles its limits as it ends
    # Processes that one of them started meanwhile, or that ignored the request.
    _end(ours(settings), signal.SIGKILL, _KILL_SECONDS)
    left = ours(settings)
    if left:
        shown = "; ".join(f"{process.pid} {' '.join(command_line(process.pid))[:100]}" for process in left)
        raise NodeError(f"expected no process of {settings.home} after SIGKILL; got {shown}: run it again")
    _check_ports(settings, [settings.gateway_port, settings.gateway_admin_port, *engine_ports])
    _remove_files(settings)
    return running


def _end_releases(settings: NexusSettings, say: Callable[[str], None]) -> None:
    """End pipelines and wait for the commands that run them: those keep the node up for as long as their pipeline runs.

    A command is waited for by its model's lock; it is not ended, for it may be a notebook.
    """
    pipelines = [process for process in ours(settings) if _PIPELINE in command_line(process.pid)]
    if not pipelines:
        return
    say("stopping the running release; the same command carries on with it")
    _end(pipelines, signal.SIGTERM, _PIPELINE_SECONDS)
    _end(pipelines, signal.SIGKILL, _KILL_SECONDS)
    for lock in (settings.run_dir / "locks").glob("*.lock"):
        if not _wait_free(lock):
            held = lock.read_text().strip()
            raise NodeError(f"expected the release {held} to end with its pipeline; it did not: stop that process")


def _wait_free(lock: Path) -> bool:
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        try:
            with file_lock(lock, wait=False):
                return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(_POLL_SECONDS)


def ours(settings: NexusSettings) -> list[ProcessId]:
    """List processes that run programs of ours for this home.

    The mark (`NEXUS_HOME`) is inherited, so a shell or an editor may carry it too; only our interpreters and programs
    of the home's environments are ours to end.
    """
    return [process for process in processes_of_home(settings.home) if _runs_our_program(process.pid, settings.home)]


def _runs_our_program(pid: int, home: Path) -> bool:
    program = (command_line(pid) or [""])[0]
    if not program.startswith("/"):
        # A title written over the command line, as vLLM's helpers do; a foreign one does not work in the home.
        return program.startswith(("VLLM::", "sglang::"))
    return Path(program).is_relative_to(sys.prefix) or program.startswith(f"{home}/")


def _is_redis(pid: int) -> bool:
    return Path((command_line(pid) or [""])[0]).name == "redis-server"


def _leaders(processes: Sequence[ProcessId]) -> list[ProcessId]:
    """Leave out processes whose group's leader is asked too: vLLM's helper hangs when it is asked twice."""
    pids = {process.pid for process in processes}
    return [process for process in processes if (group := group_of(process.pid)) == process.pid or group not in pids]


def _end(processes: Iterable[ProcessId], number: signal.Signals, seconds: float) -> None:
    waiting = [process for process in processes if process.send(number)]
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in waiting) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _check_ports(settings: NexusSettings, numbers: Iterable[int]) -> None:
    for port in numbers:
        pid = None if ports.is_free(port) else ports.owner_pid(port)
        if pid is not None and belongs_to(pid, settings.home):
            raise NodeError(f"expected port {port} free after the stop; {ports.owner(port)} has it: end it")


def _remove_files(settings: NexusSettings) -> None:
    for path in settings.run_dir.iterdir() if settings.run_dir.is_dir() else ():
        if path.name == "locks":
            continue  # somebody may hold one: a new file of the same name would let a second holder in
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix not in _LOCKS:
            path.unlink(missing_ok=True)
    shutil.rmtree(scratch_folder(settings), ignore_errors=True)
