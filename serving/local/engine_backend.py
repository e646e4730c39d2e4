"""What the reconciler does to engines: the one place where its decisions touch processes, files and the network."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path
from typing import Protocol

from serving.files import digest_folder
from serving.local import log_files, ports, probe
from serving.local.engine_client import exit_code, start_engine
from serving.local.engine_plan import plan_engine
from serving.local.errors import EngineError, WeightsError, weights_errors
from serving.local.processes import kill_group
from serving.local.service_record import RecordStore, ServiceRecord
from serving.runtimes.inference_service import ServedService
from serving.settings import NexusSettings
from serving.weights_folder import check_folder

_PROBE_SECONDS = 20.0  # one token on a slow, busy machine
_METRICS_SECONDS = 2.0
_IN_FLIGHT = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs)(?:\{[^}]*\})? ([0-9.e+]+)$", re.M
)


class Backend(Protocol):
    """What `ManagedService` needs; `prepare`, `problem` and `in_flight` may block and run in threads."""

    def prepare(self, service: ServedService) -> None:
        """Check that a service can be started: its weights are whole and what the document says.

        Raises:
            WeightsError: They are not.
        """

    def plan(self, service: ServedService) -> ServiceRecord:
        """Decide a start and write it down.

        Raises:
            EngineError: The arguments were refused.
        """

    def start(self, service: ServedService, record: ServiceRecord) -> ServiceRecord:
        """Start what was planned (once, however often it is called) and write the process down.

        Raises:
            EngineError: It ended at once, or the parent does not answer.
        """

    def ready(self, record: ServiceRecord) -> ServiceRecord:
        """Write down that it has answered."""

    def alive(self, record: ServiceRecord) -> bool:
        """Return whether its leader runs."""

    def exit_code(self, record: ServiceRecord) -> int | None:
        """Return the exit code of one that is not alive; None when nobody saw it."""

    def problem(self, record: ServiceRecord) -> str | None:
        """Ask it for a completion; None when it answered."""

    def in_flight(self, record: ServiceRecord) -> int | None:
        """Count its requests; None when it does not say."""

    def terminate(self, record: ServiceRecord) -> None:
        """Ask it to end."""

    def kill(self, record: ServiceRecord) -> None:
        """End it with everything it started, and forget it."""

    def tail(self, record: ServiceRecord) -> tuple[str, ...]:
        """Return its last log lines."""


class ProcessBackend:
    """Engines as processes of this machine."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings
        self._records = RecordStore(settings.run_dir / "services")
        self._digests: dict[tuple[Path, tuple[tuple[str, int, int], ...]], str] = {}
        self._lock = threading.Lock()

    def prepare(self, service: ServedService) -> None:
        """See `Backend.prepare`."""
        folder = service.folder
        if folder is None:
            raise WeightsError(
                f"expected file:// or an absolute path in storageUri; got {service.storage_uri!r}: "
                "this machine has no storage initializer"
            )
        with weights_errors():
            check_folder(folder)
        found = self._digest(folder)
        if found != service.weights_digest:
            raise WeightsError(
                f"expected weights {service.weights_digest} in {folder}; got {found}: "
                "the files changed after the release was registered, restore them or release again"
            )

    def plan(self, service: ServedService) -> ServiceRecord:
        """See `Backend.plan`."""
        assert service.folder is not None, "prepare() has refused any other storage"
        log_path = log_files.engine_log(self._settings.log_dir, service.name)
        taken = {record.port for record in self._records.all()}
        plan = plan_engine(
            self._settings,
            engine=service.engine,
            model_path=service.folder,
            served_name=service.model,
            log_path=log_path,
            port=ports.free_port(taken),
        )
        record = ServiceRecord(
            service=service.name,
            spec_digest=service.spec_digest,
            served_name=service.model,
            token=plan.token,
            port=plan.port,
            log_path=str(log_path),
            identity_path=str(plan.identity_path),
            started_at=time.time(),
        )
        self._records.write(record)
        return record

    def start(self, service: ServedService, record: ServiceRecord) -> ServiceRecord:
        """See `Backend.start`."""
        assert service.folder is not None, "prepare() has refused any other storage"
        process = record.process
        if process is None or not process.alive():
            plan = plan_engine(
                self._settings,
                engine=service.engine,
                model_path=service.folder,
                served_name=service.model,
                log_path=Path(record.log_path),
                token=record.token,
                port=record.port,
            )
            process = start_engine(self._settings, plan).process
        started = record.model_copy(update={"pid": process.pid, "start_time": process.start_time})
        self._records.write(started)
        return started

    def ready(self, record: ServiceRecord) -> ServiceRecord:
        """See `Backend.ready`."""
        ready = record.model_copy(update={"ready_at": time.time()})
        self._records.write(ready)
        return ready

    def alive(self, record: ServiceRecord) -> bool:
        """See `Backend.alive`."""
        process = record.process
        return process is not None and process.alive()

    def exit_code(self, record: ServiceRecord) -> int | None:
        """See `Backend.exit_code`."""
        return exit_code(self._settings, record.token)

    def problem(self, record: ServiceRecord) -> str | None:
        """See `Backend.problem`."""
        return probe.completion_problem(record.url, record.served_name, _PROBE_SECONDS)

    def in_flight(self, record: ServiceRecord) -> int | None:
        """See `Backend.in_flight`."""
        _, text = probe.get(record.url, "/metrics", _METRICS_SECONDS)
        values = _IN_FLIGHT.findall(text)
        return round(sum(float(value) for value in values)) if values else None

    def terminate(self, record: ServiceRecord) -> None:
        """See `Backend.terminate`."""
        process = record.process
        if process is not None:
            process.send(signal.SIGTERM)

    def kill(self, record: ServiceRecord) -> None:
        """See `Backend.kill`."""
        process = record.process
        if process is not None and not kill_group(process, self._settings.home):
            raise EngineError(f"expected process group {process.pid} to end on SIGKILL; it did not")
        self._records.remove(record)

    def tail(self, record: ServiceRecord) -> tuple[str, ...]:
        """See `Backend.tail`."""
        return log_files.tail(Path(record.log_path))

    def _digest(self, folder: Path) -> str:
        """Digest a folder once for each state that its files are in."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        states = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        with self._lock:
            known = self._digests.get((folder, states))
        if known is None:
            known = digest_folder(folder)
            with self._lock:
                self._digests[folder, states] = known
        return known
