"""Serving everybody: who cannot be served leaves, what breaks everything propagates, nothing is left running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.benchmark_model.engines import Subject, log_tail, serve_all
from serving.contracts.release_spec import EngineSettings
from serving.local.errors import EngineError
from tests.fakes.scripted_engine import RunningEngine


class Starter:
    """Opens engines that exist in name only; the script says what each start raises."""

    def __init__(self, faults: dict[str, Exception] | None = None) -> None:
        self.faults = faults or {}
        self.running: set[str] = set()

    @contextmanager
    def __call__(self, subject: Subject) -> Iterator[RunningEngine]:
        if subject.name in self.faults:
            raise self.faults[subject.name]
        self.running.add(subject.name)
        try:
            yield RunningEngine(f"http://{subject.name}/")
        finally:
            self.running.discard(subject.name)


def subjects(*names: str, timeout: float = 60) -> list[Subject]:
    settings = EngineSettings(ready_timeout_seconds=timeout)
    return [Subject(name, Path("/weights"), settings, "model", Path("/nowhere.log")) for name in names]


def test_everybody_is_served_until_the_end() -> None:
    """All engines are open at once, and closed when the block ends."""
    starter = Starter()
    with serve_all(subjects("a", "b", "c"), starter, lambda _: None) as lineup:
        assert starter.running == set(lineup.served) == {"a", "b", "c"}
        assert lineup.served["a"].url == "http://a"
    assert starter.running == set()


def test_one_that_cannot_be_served_leaves_the_others_alone() -> None:
    """The engine's words are kept; another run would see the same."""
    starter = Starter({"b": EngineError("died: no kernel")})
    with serve_all(subjects("a", "b"), starter, lambda _: None) as lineup:
        assert set(lineup.served) == {"a"}
        assert lineup.unserved == {"b": "died: no kernel"}
        assert lineup.lost == set()


def test_one_that_took_too_long_might_be_served_another_time() -> None:
    """A start that used up its time limit is marked as lost."""
    starter = Starter({"slow": EngineError("no answer")})
    with serve_all(subjects("slow", timeout=1e-9), starter, lambda _: None) as lineup:
        assert lineup.lost == {"slow"}


def test_what_breaks_everything_propagates_and_leaves_nothing_running() -> None:
    """Engines that had started are stopped."""
    starter = Starter({"b": OSError("no space left on device")})
    with pytest.raises(OSError, match="no space"), serve_all(subjects("a", "b", "c"), starter, lambda _: None):
        pytest.fail("the block must not begin")
    assert starter.running == set()


def test_log_tail_is_short_and_never_fails(tmp_path: Path) -> None:
    """The last eight lines, nothing for a missing file."""
    log = tmp_path / "engine.log"
    log.write_text("\n".join(str(line) for line in range(5000)))
    assert log_tail(log).splitlines() == [str(line) for line in range(4992, 5000)]
    assert log_tail(tmp_path / "none") == ""
