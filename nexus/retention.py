"""What a home keeps: the newest releases and everything since the first of them began; older content goes.

Git, the registry and the weights it holds stay: they are the truth, and what is served needs them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from serving import release_state
from serving.contracts.base import StrictModel
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.settings import NexusSettings


class Cleaned(StrictModel):
    """What was removed."""

    releases: int = Field(ge=0, description="Records of ended releases.")
    cache_entries: int = Field(ge=0, description="Step results that no kept release made or used.")
    spool_files: int = Field(ge=0, description="Observations, labels, spans and shadows from before the kept releases.")
    size_bytes: int = Field(ge=0, description="Size of all of it.")


def clean(settings: NexusSettings, gitops: GitOps, keep: int) -> Cleaned:
    """Remove what is older than the newest releases; a release that has not ended is always kept.

    Args:
        settings: Which home.
        gitops: Its repository, which knows what has ended.
        keep: How many of the newest releases to keep, at least 1.
    """
    records = sorted((settings.home / "releases").glob("*/events.jsonl"), key=_changed, reverse=True)
    kept = records[:keep]
    old: list[Path] = []
    for record in records[keep:]:
        state = release_state.read_release(gitops, record.parent.name, settings.environment)
        (old if state.finished or not state.transitions else kept).append(record)
    if not kept:
        return Cleaned(releases=0, cache_entries=0, spool_files=0, size_bytes=0)
    since = min(_began(record) for record in kept)
    releases = [record.parent for record in old]
    entries = list(_before(since, settings.home.glob("cache/*/*")))
    segments = list(_before(since, settings.spool_dir.rglob("*.jsonl")))
    gone = [*releases, *entries, *segments]
    size = sum(_size(path) for path in gone)
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Cleaned(releases=len(releases), cache_entries=len(entries), spool_files=len(segments), size_bytes=size)


def _began(events: Path) -> float:
    first = next(iter(ReleaseRecord(events.parent).events()), None)
    return first.ts if first is not None else _changed(events)


def _before(moment: float, paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if _changed(path) < moment)


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())
