"""Reconciler of one machine: makes what runs here follow the head of the GitOps repository.

Each round: read the head, compare with what runs, do what can be done without waiting, write down the status. It keeps
no state that a successor could not read from git, from `run/` and from the processes themselves, so it may be killed
at any moment. Started as `python -P -m serving.local.reconciler`; one per home.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from serving.contracts.node_status import NodeStatus
from serving.engines.base import Device
from serving.files import write_atomic
from serving.git_command import GitError
from serving.gitops import GitOps
from serving.local import log_files, orphans
from serving.local.adapter_process import AdapterProcess
from serving.local.desired_state import DesiredState, read_desired
from serving.local.engine_backend import ProcessBackend
from serving.local.engine_host import engine_host
from serving.local.errors import NodeError
from serving.local.gateway_config import GatewayConfig
from serving.local.gateway_process import GatewayProcess
from serving.local.head_watcher import HeadWatcher
from serving.local.lock_file import LockFile
from serving.local.managed_service import ManagedService
from serving.local.node_files import NodeFiles
from serving.local.parent_client import ensure_parent
from serving.local.redis_process import RedisProcess
from serving.local.service_record import RecordStore
from serving.runtimes.inference_schema import GPU_RESOURCE
from serving.settings import NexusSettings

ROUND_SECONDS = 0.2
HEARTBEAT_SECONDS = 2.0
HOUSEKEEPING_SECONDS = 10.0
PARENT_LOOK_SECONDS = 1.0
PARENT_RETRY_SECONDS = 15.0
BUSY_EXIT = 75  # EX_TEMPFAIL: another reconciler serves this home
GATEWAY_ARGV = (sys.executable, "-P", "-m", "gateway")


class Reconciler:
    """The loop and what it remembers between rounds."""

    def __init__(self, settings: NexusSettings, gateway_argv: Sequence[str] = GATEWAY_ARGV) -> None:
        self._settings = settings
        self._files = NodeFiles(settings.run_dir)
        self._executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="reconciler")
        self._backend = ProcessBackend(settings)
        self._config = GatewayConfig(settings.run_dir)
        self._redis = RedisProcess(settings, self._executor) if settings.gateway_redis_url is None else None
        self._adapter = AdapterProcess(settings, self._executor) if settings.gateway_provider_socket is None else None
        self._gateway = GatewayProcess(settings, gateway_argv, self._executor)
        self._watcher = HeadWatcher(GitOps.of(settings), self._executor)
        self._desired: DesiredState | None = None
        self._services: dict[str, ManagedService] = {}
        self._parent: Future[None] | None = None
        self._parent_ready = False
        self._parent_problem: str | None = None
        self._parent_at = self._status_at = self._housekeeping_at = 0.0
        self._endpoints_at = time.monotonic()
        self._status: NodeStatus | None = None
        self._starts_at_once = max(1, (os.cpu_count() or 1) // 2)

    def adopt(self) -> None:
        """Take over the engines of an earlier reconciler."""
        for record in RecordStore(self._settings.run_dir / "services").all():
            self._service(record.service).adopt(record)

    def run(self, stop: threading.Event) -> None:
        """Go round until told to stop. Engines and gateway keep running."""
        while not stop.wait(ROUND_SECONDS):
            problems: list[str] = []
            try:
                self.round(problems)
            except (NodeError, GitError, OSError) as exc:
                problems.append(f"{type(exc).__name__}: {exc}")
            except Exception as exc:  # noqa: BLE001 - the edge of this process: the next round must come
                traceback.print_exc()
                problems.append(f"unexpected {type(exc).__name__}: {exc}")
            self._report(problems)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def round(self, problems: list[str]) -> None:
        """Do one round; what went wrong is added to `problems`."""
        self._read(problems)
        retry = self._files.take_retry()
        for name in retry & self._services.keys():
            self._services[name].retry()
        self._keep_parent()
        if self._desired is not None:  # a repository that cannot be read is no reason to stop what runs
            self._step_services(problems)
        addresses = {name: (s.address, True) for name, s in self._services.items() if s.address is not None}
        if self._config.publish_endpoints(addresses):
            self._endpoints_at = time.monotonic()
        if self._redis is not None:
            self._redis.step()
        if self._adapter is not None and self._desired is not None:
            self._adapter.keep(named=self._desired.names_provider)
        self._gateway.step()
        self._keep_house()

    def _read(self, problems: list[str]) -> None:
        snapshot = self._watcher.poll()
        problems.extend([self._watcher.problem] if self._watcher.problem else [])
        if snapshot is not None and (self._desired is None or self._desired.commit != snapshot.commit):
            desired = self._applicable(read_desired(snapshot, self._settings.environment))
            self._config.publish(desired.commit or "empty", desired.gateway_files, desired.problems)
            self._desired = desired
            for name in sorted(desired.services.keys() | self._services.keys()):
                self._service(name).want(desired.services.get(name))
        problems.extend(self._desired.problems if self._desired else ())

    def _applicable(self, desired: DesiredState) -> DesiredState:
        """On a machine with a GPU, do not call a GPU missing."""
        if engine_host(self._settings).device is Device.CPU:
            return desired
        services = {
            name: replace(service, not_applied=tuple(x for x in service.not_applied if not x.startswith(GPU_RESOURCE)))
            for name, service in desired.services.items()
        }
        return replace(desired, services=services)

    def _service(self, name: str) -> ManagedService:
        if name not in self._services:
            self._services[name] = ManagedService(name, self._backend, self._executor, time.monotonic)
        return self._services[name]

    def _keep_parent(self) -> None:
        """Have an engine parent, started in the background; its state is looked at once a second."""
        now = time.monotonic()
        if self._parent is None and now >= self._parent_at:
            self._parent_at = now
            self._parent = self._executor.submit(ensure_parent, self._settings)
        elif self._parent is not None and self._parent.done():
            failure = self._parent.exception()
            self._parent = None
            self._parent_ready = failure is None
            self._parent_problem = None if failure is None else str(failure)
            self._parent_at = now + (PARENT_LOOK_SECONDS if failure is None else PARENT_RETRY_SECONDS)
        elif self._parent is not None and now - self._parent_at > PARENT_LOOK_SECONDS:
            self._parent_ready = False  # it would have answered at once

    def _step_services(self, problems: list[str]) -> None:
        gateway_knows = self._gateway_is_current()
        for name, service in list(self._services.items()):
            starting = sum(other.is_starting for other in self._services.values())
            may_start = self._parent_ready and starting < self._starts_at_once
            try:
                service.step(may_start=may_start, gateway_knows=gateway_knows)
            except (NodeError, OSError) as exc:
                problems.append(f"service {name}: {exc}")
            if service.gone:
                del self._services[name]

    def _gateway_is_current(self) -> bool:
        return self._gateway.has_read(self._config.revision(), self._endpoints_at)

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING_SECONDS
            log_files.bound_size(self._settings.log_dir)
            orphans.sweep(self._settings)

    def _report(self, problems: list[str]) -> None:
        own = [self._parent_problem] if self._parent_problem else []
        redis = self._redis
        own += [f"redis: {redis.problem}"] if redis is not None and redis.problem else []
        own += self._adapter.problems if self._adapter is not None else []
        status = NodeStatus(
            commit=self._desired.commit if self._desired else None,
            synced_at=time.time(),
            reconciler_pid=os.getpid(),
            gateway_url=self._gateway.url,
            gateway_revision=self._gateway.revision,
            gateway_current=self._gateway_is_current(),
            redis=redis.status() if redis is not None else None,
            adapter=self._adapter.status() if self._adapter is not None else None,
            services=tuple(service.status() for _, service in sorted(self._services.items())),
            problems=(*problems, *own, *self._gateway.problems),
        )
        now = time.monotonic()
        same = self._status is not None and self._status.model_copy(update={"synced_at": status.synced_at}) == status
        if same and now < self._status_at:
            return
        try:
            write_atomic(self._files.status, status.model_dump_json(indent=2) + "\n")
            self._files.retry_done()
        except OSError as exc:
            print(f"status cannot be written: {exc}", file=sys.stderr, flush=True)
            return
        self._tell_changes(status)
        self._status, self._status_at = status, now + HEARTBEAT_SECONDS

    def _tell_changes(self, status: NodeStatus) -> None:
        """Log what is new since the last status."""
        before = {service.name: service.phase for service in self._status.services} if self._status else {}
        for service in status.services:
            if before.get(service.name) is not service.phase:
                print(f"{_clock()} {service.name}: {service.phase} ({service.message})", flush=True)
        for problem in status.problems:
            if self._status is None or problem not in self._status.problems:
                print(f"{_clock()} problem: {problem}", flush=True)


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def main() -> int:
    """Reconcile the home of this process's settings until SIGTERM."""
    settings = NexusSettings.load()
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    lock = LockFile(NodeFiles(settings.run_dir).lock)
    if not lock.acquire():
        return BUSY_EXIT
    os.chdir(settings.home)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reconciler = Reconciler(settings)
    reconciler.adopt()
    reconciler.run(stop)
    lock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
