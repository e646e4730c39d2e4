from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool, SpoolFile
from serving.contracts import metric_names as names

pytestmark = pytest.mark.asyncio


class Disk:
    """`os.write` on a disk with room for so many bytes; writes what still fits, as a real one does."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: memoryview) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written


def build(
    folder: Path, disk: Disk | None = None, queue: int = 10_000, size: int = 4096
) -> tuple[Spool, GatewayMetrics]:
    metrics = GatewayMetrics()
    file = SpoolFile(folder, size, disk.write) if disk else SpoolFile(folder, size)
    return Spool("observations", file, queue_bytes=queue, flush_seconds=0.01, metrics=metrics), metrics


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.glob("*.jsonl")]


def count(metrics: GatewayMetrics, name: str) -> float:
    return metrics.registry.get_sample_value(name, {"spool": "observations"}) or 0.0


def numbered(amount: int) -> list[bytes]:
    return [b'{"n":%d}\n' % number for number in range(amount)]


async def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    """A flush writes every queued line once, in order, and counts it as written."""
    spool, metrics = build(tmp_path)
    for line in numbered(300):
        spool.put(line)
    assert await spool.flush()
    assert lines(tmp_path) == numbered(300)
    assert (spool.queued, count(metrics, names.GATEWAY_SPOOL_WRITTEN)) == (0, 300)
    await spool.close()


async def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    """No file exceeds its size limit, and the files in their order hold all lines in theirs."""
    spool, _ = build(tmp_path, size=64)
    for line in numbered(30):
        spool.put(line)
        await spool.flush()
    await spool.close()
    assert len(sizes(tmp_path)) > 3
    assert all(size <= 64 for size in sizes(tmp_path))
    assert lines(tmp_path) == numbered(30)


async def test_a_full_queue_drops_and_counts_and_never_blocks(tmp_path: Path) -> None:
    """Lines beyond the queue's limit are dropped and counted; the oldest are kept, and later ones find room again."""
    spool, metrics = build(tmp_path, queue=80)
    for line in numbered(50):
        spool.put(line)
    kept = spool.queued
    assert 0 < kept < 50
    assert count(metrics, names.GATEWAY_SPOOL_DROPPED) == 50 - kept
    await spool.flush()
    spool.put(b"{}\n")
    await spool.close()
    assert lines(tmp_path) == [*numbered(kept), b"{}\n"]


async def test_a_full_disk_is_counted_and_recovers_without_loss_or_half_lines(tmp_path: Path) -> None:
    """A full disk keeps lines queued and leaves nothing half written; with room again all of them arrive."""
    disk = Disk(room=25)
    spool, metrics = build(tmp_path, disk)
    for line in numbered(10):
        spool.put(line)
    assert not await spool.flush()
    assert not await spool.flush()
    assert lines(tmp_path) == []
    assert (spool.queued, count(metrics, names.GATEWAY_SPOOL_WRITE_FAILURES)) == (10, 2)
    disk.room = 10_000
    spool.put(b"{}\n")
    assert await spool.flush()
    await spool.close()
    assert lines(tmp_path) == [*numbered(10), b"{}\n"]


async def test_what_cannot_be_written_at_the_end_is_counted_as_dropped(tmp_path: Path) -> None:
    """A line that cannot be written when the spool closes counts as dropped."""
    spool, metrics = build(tmp_path, Disk(room=0))
    spool.put(b"{}\n")
    await spool.close()
    assert count(metrics, names.GATEWAY_SPOOL_DROPPED) == 1


async def test_each_process_begins_a_file_of_its_own(tmp_path: Path) -> None:
    """A second spool on the same folder writes to a new file."""
    for _ in range(2):
        spool, _ = build(tmp_path)
        spool.put(b"{}\n")
        await spool.close()
    assert len(sizes(tmp_path)) == 2


async def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    """A folder that is not there is made by the first write, and one that vanished since by the next one."""
    folder = tmp_path / "spool"
    spool, _ = build(folder)
    spool.put(b"{}\n")
    assert await spool.flush()
    assert lines(folder) == [b"{}\n"]
    shutil.rmtree(folder)
    spool.put(b"[]\n")
    await spool.close()
    assert lines(folder) == [b"[]\n"]
