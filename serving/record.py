"""Release record: the folder where every step leaves its document and says what it is doing.

KFP artifacts feed the next step; the record is what the CLI shows and the report is made of.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.contracts.progress import EventKind, ProgressEvent
from serving.files import write_atomic

DocumentT = TypeVar("DocumentT", bound=BaseModel)


@dataclass(frozen=True)
class ReleaseRecord:
    """Record of one release at `folder` (`NexusSettings.release_dir`)."""

    folder: Path

    def publish(self, name: str, document: BaseModel) -> None:
        """Write `<name>.json`, replacing an earlier one in one step."""
        write_atomic(self.folder / f"{name}.json", document.model_dump_json(indent=2) + "\n")

    def read(self, name: str, model: type[DocumentT]) -> DocumentT | None:
        """Read `<name>.json`; None when the step has not written it."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        return model.model_validate_json(path.read_bytes())

    def emit(self, step: str, kind: EventKind, message: str = "", fraction: float | None = None) -> None:
        """Append one progress event; a line is written in one call, so concurrent steps never mix.

        A line that a full disk cut short before is ended first, so that it costs itself and nothing behind it.
        """
        event = ProgressEvent(ts=time.time(), step=step, kind=kind, message=message, fraction=fraction)
        self.folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.folder / "events.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, ("\n" * torn + event.model_dump_json() + "\n").encode())
        finally:
            os.close(fd)

    def events(self) -> list[ProgressEvent]:
        """Read all lines written so far; one that a full disk or a kill cut short is left out."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return []
        raw = path.read_bytes()
        events = (_event(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines())
        return [event for event in events if event is not None]

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        """Report a step's start and end; a failure is reported with its message and propagates."""
        self.emit(name, EventKind.STARTED)
        progress = Progress(self, name)
        try:
            yield progress
        except BaseException as exc:
            self.emit(name, EventKind.FAILED, f"{type(exc).__name__}: {exc}"[:2000])
            raise
        self.emit(name, EventKind.FINISHED, progress.summary)


def _event(line: bytes) -> ProgressEvent | None:
    try:
        return ProgressEvent.model_validate_json(line)
    except ValidationError:
        return None


class Progress:
    """What a running step reports to its record; `summary` is shown when the step ends."""

    def __init__(self, record: ReleaseRecord, step: str) -> None:
        self._record = record
        self._step = step
        self.summary = ""

    def say(self, message: str, fraction: float | None = None) -> None:
        """Report what is being done now; `fraction` of the step done, 0 to 1."""
        self._record.emit(self._step, EventKind.PROGRESS, message, fraction)

    def cached(self, message: str) -> None:
        """Report that an earlier result with the same content is used."""
        self._record.emit(self._step, EventKind.CACHED, message)
