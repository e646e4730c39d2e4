"""`nexus clean`: the newest releases and what they used stay, whatever has not ended stays, the rest goes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nexus import retention
from serving.contracts.progress import EventKind, ProgressEvent
from serving.settings import NexusSettings


def put(path: Path, when: float, text: str = "x") -> Path:
    """Make a file of a moment; its folder gets the moment too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))
    os.utime(path.parent, (when, when))
    return path


def put_release(home: Path, name: str, began: float) -> None:
    """Make the record of a release."""
    event = ProgressEvent(ts=began, step="prepare_data", kind=EventKind.STARTED)
    put(home / "releases" / name / "events.jsonl", began + 10, event.model_dump_json() + "\n")


def clean(home: Path, keep: int, monkeypatch: pytest.MonkeyPatch, unfinished: tuple[str, ...] = ()) -> Any:
    """Clean a home in whose repository only some releases have not ended."""

    def read(_: object, release_id: str, environment: str) -> SimpleNamespace:
        return SimpleNamespace(finished=release_id not in unfinished, transitions=("deployed",))

    monkeypatch.setattr(retention.release_state, "read_release", read)
    return retention.clean(NexusSettings(home=home), None, keep)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three releases, begun at 100, 200 and 300, each with a step result and observations and shadows of its time."""
    for number, began in enumerate((100.0, 200.0, 300.0)):
        put_release(tmp_path, f"m-{number}", began)
        put(tmp_path / "cache" / "train_model" / f"key-{number}" / "weights", began + 5)
        put(tmp_path / "spool" / "observations" / f"observations-{number}.jsonl", began + 7)
        put(tmp_path / "spool" / "observations" / "shadows" / f"observations-{number}.jsonl", began + 7)
    put(tmp_path / "spool" / "observations" / "user-hash.key", 1.0)
    return tmp_path


def left(home: Path) -> list[str]:
    """Name what is left of each kind, with its number."""
    paths = [*home.glob("releases/*"), *home.glob("cache/*/*"), *home.glob("spool/**/*.jsonl")]
    return sorted(path.stem[-1] for path in paths)


def test_older_content_goes_with_its_releases(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest release goes with what only it used; the key that hides users stays."""
    cleaned = clean(home, 2, monkeypatch)
    assert (cleaned.releases, cleaned.cache_entries, cleaned.spool_files) == (1, 1, 2)
    assert cleaned.size_bytes > 0
    assert left(home) == ["1"] * 4 + ["2"] * 4
    assert (home / "spool" / "observations" / "user-hash.key").exists()
    again = clean(home, 2, monkeypatch)
    assert (again.releases, again.cache_entries, again.spool_files, again.size_bytes) == (0, 0, 0, 0)


def test_unfinished_release_keeps_all_it_needs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old release that waits in its canary holds what was made since it began."""
    clean(home, 1, monkeypatch, unfinished=("m-0",))
    assert left(home) == ["0"] * 4 + ["1"] * 3 + ["2"] * 4


def test_used_step_result_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that a newer release found in the cache has that release's time."""
    os.utime(home / "cache" / "train_model" / "key-0", (310.0, 310.0))
    clean(home, 1, monkeypatch)
    assert (home / "cache" / "train_model" / "key-0").is_dir()


def test_empty_home_has_nothing_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No release, nothing touched."""
    put(tmp_path / "cache" / "train_model" / "key" / "weights", 1.0)
    assert clean(tmp_path, 1, monkeypatch).size_bytes == 0
    assert (tmp_path / "cache" / "train_model" / "key").is_dir()
