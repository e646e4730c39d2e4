"""Run one release to its end: lock the model, start the node, run the pipeline, follow its events.

Killable at any moment: the lock is the kernel's, the state is in git, and the next run of the same spec carries on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from nexus.outcome import ReleaseOutcome, read_outcome
from serving.contracts.progress import EventKind, ProgressEvent
from serving.contracts.release_spec import ResolvedRelease
from serving.files import digest_bytes, file_lock, write_atomic
from serving.local.processes import HOME_VARIABLE, command_line, die_with_parent, processes_of_home
from serving.local.shutdown import model_lock_path
from serving.record import ReleaseRecord
from serving.settings import NexusSettings, inherited_environment

_POLL_SECONDS = 0.2
_VALIDATION = "validate_data"
_KILL_SECONDS = 5.0


class ReleaseBusyError(Exception):
    """Another release of the same model is running."""


@contextmanager
def model_lock(settings: NexusSettings, release: ResolvedRelease) -> Iterator[None]:
    """Hold the model's lock; the kernel frees it when this process dies.

    Raises:
        ReleaseBusyError: Another process holds it; the message names its release.
    """
    path = model_lock_path(settings, release.spec.model)
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(file_lock(path, wait=False))
        except BlockingIOError as exc:
            holder = path.read_text().strip() or "unknown"
            raise ReleaseBusyError(
                f"expected no other release of {release.spec.model!r}; {holder} is running: "
                "wait for it or stop that process"
            ) from exc
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{release.release_id} (pid {os.getpid()})\n".encode(), 0)
        yield


def run_release(
    release: ResolvedRelease,
    settings: NexusSettings,
    *,
    on_event: Callable[[ProgressEvent], None],
    start_node: Callable[[], object],
    keep_node: Callable[[], object],
) -> ReleaseOutcome:
    """Run the pipeline for a resolved release and tell how it ended. The caller holds `model_lock`.

    Args:
        release: What to release.
        settings: Where.
        on_event: Called for each progress event of this run, in order.
        start_node: Starts the local node; called beside the pipeline as soon as the data is known to be good, because
            engines take long to import and broken data needs none.
        keep_node: Starts again what nobody else would; called all the time once `start_node` has returned.
    """
    started = time.monotonic()
    record = ReleaseRecord(settings.release_dir(release.release_id))
    end_leftovers(settings, release.release_id)
    before = seen = len(record.events())
    (record.folder / "data.json").unlink(missing_ok=True)  # an earlier run's broken data is no verdict on this one's
    resolved = record.folder / "release.json"
    write_atomic(resolved, release.model_dump_json(indent=2) + "\n")
    node = _Background(start_node)

    def follow(event: ProgressEvent) -> None:
        if event.step == _VALIDATION and event.kind is EventKind.FINISHED:
            node.start()
        on_event(event)

    with (
        (record.folder / "pipeline.log").open("ab") as log,
        tempfile.TemporaryDirectory(
            prefix=_scratch_prefix(settings, release.release_id), ignore_cleanup_errors=True
        ) as scratch,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.run_local", str(resolved)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_child_environment(settings, scratch),
            preexec_fn=partial(die_with_parent, signal.SIGTERM),  # noqa: PLW1509 - one prctl call, no lock is taken
        )
        try:
            while process.poll() is None:
                seen = _forward(record, seen, follow)
                node.check()
                if node.done:
                    keep_node()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
            raise
        finally:
            end_leftovers(settings, release.release_id)  # the pipeline may have been killed alone
    _forward(record, seen, follow)
    node.check()
    return read_outcome(
        record,
        release_id=release.release_id,
        name=release.name,
        seconds=time.monotonic() - started,
        exit_code=process.returncode,
        since=before,
    )


def _child_environment(settings: NexusSettings, scratch: str) -> dict[str, str]:
    """Hand the environment on, with our mark; kfp leaves a folder a step where TMPDIR says.

    Modules come from the installation, never from the folder the command happens to be called in.
    """
    ours = {HOME_VARIABLE: str(settings.home), "TMPDIR": scratch, "PYTHONSAFEPATH": "1"}
    return {**inherited_environment(), **ours}


def _scratch_prefix(settings: NexusSettings, release_id: str) -> str:
    """Name temporary folders so that another home, which may run the same release, keeps its own."""
    home = digest_bytes(os.fsencode(settings.home.resolve())).removeprefix("sha256:")[:8]
    return f"nexus-{os.getuid()}-{home}-{release_id}-"


def end_leftovers(settings: NexusSettings, release_id: str) -> None:
    """End steps of this release that outlived their pipeline, and remove its temporary files.

    The caller holds the model's lock and runs no pipeline, so none of them is in use.
    """
    wanted = str(settings.release_dir(release_id))
    for process in processes_of_home(settings.home):
        if any(wanted in part for part in command_line(process.pid)):
            process.send(signal.SIGKILL)
            process.wait(_KILL_SECONDS)
    for folder in Path(tempfile.gettempdir()).glob(f"{_scratch_prefix(settings, release_id)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _forward(record: ReleaseRecord, seen: int, on_event: Callable[[ProgressEvent], None]) -> int:
    events = record.events()
    for event in events[seen:]:
        on_event(event)
    return len(events)


class _Background:
    """One call in a thread; its error is raised where `check` is called."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)

    def start(self) -> None:
        """Make the call; once, however often this is called."""
        if not self._thread.ident:
            self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the call has returned."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread
            self._error = exc

    def check(self) -> None:
        if self._error is not None:
            raise self._error
