"""What the reconciler writes down about each engine, so that its successor finds it again: `run/services/<name>.json`.

A record is written before the engine is asked for (with the token of the start and no process), and again with the
process. Whoever reads it verifies the process before believing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from serving.contracts.base import StrictModel
from serving.files import write_atomic
from serving.local.engine_process import read_identity
from serving.local.processes import ProcessId


class ServiceRecord(StrictModel):
    """One engine of one service."""

    service: str
    spec_digest: str
    served_name: str
    token: str
    port: int
    log_path: str
    identity_path: str
    pid: int | None = None
    start_time: int | None = None
    started_at: float
    ready_at: float | None = None

    @property
    def url(self) -> str:
        """Base address of the engine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> ProcessId | None:
        """The engine's leader: as recorded, or as the engine itself wrote it down; None when it never got so far."""
        if self.pid is not None and self.start_time is not None:
            return ProcessId(self.pid, self.start_time)
        identity = read_identity(Path(self.identity_path))
        return identity.process if identity is not None else None


@dataclass(frozen=True)
class RecordStore:
    """The records of one home."""

    folder: Path

    def all(self) -> list[ServiceRecord]:
        """Read every record; one that cannot be read is of another version and is skipped."""
        records = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                records.append(ServiceRecord.model_validate_json(path.read_bytes()))
            except (ValidationError, FileNotFoundError):
                continue
        return records

    def write(self, record: ServiceRecord) -> None:
        """Replace a service's record."""
        write_atomic(self.folder / f"{record.service}.json", record.model_dump_json())

    def remove(self, record: ServiceRecord) -> None:
        """Forget an engine that has ended, with the file it identified itself by."""
        Path(record.identity_path).unlink(missing_ok=True)
        (self.folder / f"{record.service}.json").unlink(missing_ok=True)
