"""Spool: a bounded queue in memory, and append-only JSON-lines files that batches are written to.

A request only appends to the queue. Batches are written and synced off the event loop, `flush_seconds` apart, so a
`kill -9` loses what came in the last `flush_seconds` and the batch being written, nothing older. A file never holds
half a line in its middle: a batch that failed is cut off again, and each process begins a file of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio

from gateway.telemetry.metrics import GatewayMetrics

_RETRY_SECONDS: Final = 1.0
"""Between two tries of a batch that could not be written."""

_BATCH_BYTES: Final = 4_194_304
"""Largest batch: bounds the time that one write takes."""

log = logging.getLogger(__name__)


class SpoolFile:
    """Appends batches to files of a bounded size. Blocking; used from one thread at a time.

    Args:
        folder: Where files go; made when missing.
        max_bytes: Size from which a new file is begun.
        write: `os.write` but for tests of full disks.
        mode: Who may read and write its files.
    """

    def __init__(
        self, folder: Path, max_bytes: int, write: Callable[[int, memoryview], int] = os.write, *, mode: int = 0o640
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._write = write
        self._mode = mode
        self._fd: int | None = None
        self._size = 0
        self._number = 0
        self._started = time.strftime("%Y%m%dT%H%M%S", time.gmtime())

    def append(self, batch: bytes) -> None:
        """Write a batch of whole lines and sync it.

        Raises:
            OSError: It is not written, and nothing of it is left in the file.
        """
        if self._fd is None or self._vanished(self._fd) or (self._size and self._size + len(batch) > self._max_bytes):
            self._begin()
        assert self._fd is not None
        try:
            rest = memoryview(batch)
            while rest:
                rest = rest[self._write(self._fd, rest) :]
            os.fdatasync(self._fd)
        except OSError:
            self._undo()
            raise
        self._size += len(batch)

    @staticmethod
    def _vanished(fd: int) -> bool:
        """Whether somebody deleted the file under us: what is written to it, nobody will read."""
        return os.fstat(fd).st_nlink == 0

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        while self._fd is None:
            self._number += 1
            path = self._folder / f"observations-{self._started}-{os.getpid()}-{self._number:04d}.jsonl"
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, self._mode)
            except FileExistsError:
                continue
        self._size = 0

    def _undo(self) -> None:
        assert self._fd is not None
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self.close()  # half a line may be the file's last one; readers drop it, the next batch gets a new file

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Spool:
    """Takes lines without ever making a request wait.

    Args:
        name: What the lines are; a metric label.
        file: Where batches go.
        queue_bytes: Memory for what is not written yet; above it observations are dropped and counted.
        flush_seconds: Time between batches.
        metrics: Where written, dropped and failed are counted.
    """

    def __init__(
        self, name: str, file: SpoolFile, *, queue_bytes: int, flush_seconds: float, metrics: GatewayMetrics
    ) -> None:
        self._name = name
        self._file = file
        self._limit = queue_bytes
        self._flush_seconds = flush_seconds
        self._counters = metrics.spool(name, lambda: self.queued)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._batch: list[bytes] = []
        self._failing = False

    @property
    def queued(self) -> int:
        """Lines that are not on disk yet."""
        return len(self._queue) + len(self._batch)

    def put(self, line: bytes) -> None:
        """Queue one line (with its newline), or count it as dropped."""
        if self._queued_bytes + len(line) > self._limit:
            self._counters.dropped.inc()
            return
        self._queued_bytes += len(line)
        self._queue.append(line)

    async def run(self) -> None:
        """Write batches, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS if self._failing else self._flush_seconds)
            await self.flush()

    async def flush(self) -> bool:
        """Write what is queued; False when it could not be written and waits for the next try."""
        while self._batch or self._queue:
            if not self._batch:
                self._take_batch()
            try:
                await anyio.to_thread.run_sync(self._file.append, b"".join(self._batch))
            except OSError:
                self._counters.write_failures.inc()
                if not self._failing:
                    fields = {"spool": self._name, "queued": self.queued}
                    log.exception("lines cannot be written; trying again", extra={"fields": fields})
                self._failing = True
                return False
            if self._failing:
                log.warning("lines are written again", extra={"fields": {"spool": self._name}})
            self._failing = False
            self._counters.written.inc(len(self._batch))
            self._queued_bytes -= sum(map(len, self._batch))
            self._batch = []
        return True

    def _take_batch(self) -> None:
        size = 0
        while self._queue and size < _BATCH_BYTES:
            line = self._queue.popleft()
            size += len(line)
            self._batch.append(line)

    async def close(self) -> None:
        """Write what is left, once, and close the file; what cannot be written is counted as dropped."""
        if not await self.flush():
            lost = self.queued
            self._counters.dropped.inc(lost)
            log.error("lines lost at shutdown", extra={"fields": {"spool": self._name, "lost": lost}})
        self._file.close()
