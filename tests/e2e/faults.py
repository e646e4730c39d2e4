"""kill -9 of one process of a running node, what tells that it has a successor, and a census of its engines."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from dataclasses import dataclass, field

from serving.contracts.node_status import Phase, ServiceStatus
from serving.local import node
from serving.local.engine_process import read_identity
from serving.local.lock_file import lock_holder
from serving.local.parent_client import parent_lock
from serving.local.processes import ProcessId, command_line, processes_of_home
from serving.local.reconciler_client import reconciler_runs
from serving.local.service_record import RecordStore
from serving.settings import NexusSettings


@dataclass
class Node:
    """The processes of one home, by what they do; None while there is none that works.

    `engines` holds every engine that was ever seen, by service.
    """

    settings: NexusSettings
    engines: dict[str, set[ProcessId]] = field(default_factory=lambda: defaultdict(set))
    ports: set[int] = field(default_factory=set)

    def reconciler(self) -> int | None:
        """Process that holds the reconciler's lock."""
        return reconciler_runs(self.settings)

    def parent(self) -> int | None:
        """Process that holds the engine parent's lock."""
        return lock_holder(parent_lock(self.settings))

    def gateway(self) -> int | None:
        """Process of a gateway that answers by a commit."""
        status = node.read_status(self.settings)
        if status is None or status.gateway_revision is None:
            return None
        found = [
            p.pid for p in processes_of_home(self.settings.home) if command_line(p.pid)[1:4] == ["-P", "-m", "gateway"]
        ]
        return found[0] if len(found) == 1 else None

    def engine(self, service: str) -> int | None:
        """Process of a service's engine that has answered."""
        ready = [one for one in self.services() if one.name == service and one.phase is Phase.READY]
        return ready[0].pid if ready else None

    def services(self) -> tuple[ServiceStatus, ...]:
        """Services as the reconciler last saw them."""
        status = node.read_status(self.settings)
        return status.services if status else ()

    def count_engines(self) -> None:
        """Note which engines run; fails when one runs that the reconciler does not know as its service's own."""
        identities = {str(path): read_identity(path) for path in (self.settings.run_dir / "engines").glob("*.json")}
        served = {
            path: one.process for path, one in identities.items() if one and not one.lease and one.process.alive()
        }
        records = RecordStore(self.settings.run_dir / "services").all()
        owners = {record.identity_path: record for record in records}
        for path, process in served.items():
            if path in owners:
                self.engines[owners[path].service].add(process)
                self.ports.add(owners[path].port)
            else:  # it may have ended, and been forgotten, between the two looks
                assert not process.alive(), f"engine {process.pid} runs for no service; those are {sorted(owners)}"


def kill(pid: int | None) -> None:
    """Kill -9."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
