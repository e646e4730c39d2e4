"""A supervised process: started, adopted, started again, and never a reason for the round to fail."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.local import supervised
from serving.local.errors import NodeError
from serving.local.processes import ProcessId, environment_of, kill_group
from serving.local.supervised import Supervised
from serving.settings import NexusSettings

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")


class Sleeper(Supervised[str]):
    """Sleeps, and answers what it is told to."""

    def __init__(self, home: Path, executor: ThreadPoolExecutor, mark: str = "1") -> None:
        super().__init__(NexusSettings(home=home), home / "logs" / "sleeper.log", executor)
        self.says: str | None = "well"
        self.failure: Exception | None = None
        self.program: Sequence[str] = SLEEP
        self._mark = mark

    def argv(self) -> Sequence[str]:
        if self.failure is not None:
            raise self.failure
        return self.program

    def env(self) -> Mapping[str, str]:
        return {"NEXUS_HOME": str(self.settings.home), "MARK": self._mark}

    def is_mine(self, command: Sequence[str]) -> bool:
        return tuple(command) == SLEEP

    def is_current(self, process: ProcessId) -> bool:
        return environment_of(process.pid).get("MARK") == self._mark

    def ask(self) -> str | None:
        return self.says


Make = Callable[..., Sleeper]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Sleeper] = []
    with ThreadPoolExecutor(1) as executor:

        def build(mark: str = "1") -> Sleeper:
            made.append(Sleeper(tmp_path, executor, mark))
            return made[-1]

        yield build
    for sleeper in made:
        if sleeper.process is not None:
            kill_group(sleeper.process, tmp_path)


def until(check: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not check():
        assert time.monotonic() < end
        time.sleep(0.005)


def stepped(sleeper: Sleeper, check: Callable[[], object]) -> None:
    def step() -> object:
        sleeper.step()
        return check()

    until(step)


def test_a_dead_one_is_started_again(make: Make) -> None:
    """What it said is forgotten with it, and its successor is another process."""
    sleeper = make()
    stepped(sleeper, lambda: sleeper.answer == "well")
    first = sleeper.process
    assert first is not None
    kill_group(first, sleeper.settings.home)
    sleeper.step()
    assert (sleeper.process, sleeper.answer) == (None, None)
    assert "it died" in str(sleeper.problem)
    stepped(sleeper, lambda: sleeper.answer == "well")
    assert sleeper.process not in (None, first)
    assert sleeper.problem is None


def test_one_that_runs_is_adopted(make: Make) -> None:
    """A successor of the reconciler finds the process and starts no second one."""
    first, second = make(), make()
    first.step()
    second.step()
    assert second.process == first.process is not None


def test_one_with_other_settings_is_replaced(make: Make) -> None:
    """It would answer by settings that nobody has asked for."""
    first, second = make(), make("2")
    first.step()
    second.step()
    assert first.process is not None
    assert not first.process.alive()
    assert second.process is not None


@pytest.mark.parametrize("failure", [NodeError("port taken"), OSError("disk full")])
def test_what_is_in_the_way_is_told_and_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """The round goes on: engines do not wait for what one process lacks."""
    monkeypatch.setattr(supervised, "_OBSTACLE_SECONDS", 0.01)
    sleeper = make()
    sleeper.failure = failure
    sleeper.step()
    assert sleeper.process is None
    assert sleeper.problem == str(failure)
    sleeper.failure = None
    stepped(sleeper, lambda: sleeper.answer == "well")
    assert sleeper.problem is None


def test_a_program_that_is_not_there_is_told(make: Make) -> None:
    """A missing binary is named."""
    sleeper = make()
    sleeper.program = ("/nowhere/redis-server",)
    sleeper.step()
    assert "/nowhere/redis-server" in str(sleeper.problem)


STAYS = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def test_a_retired_one_ends_in_its_own_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is started beside it at once, and neither that nor a long silence kills it, only its own limit."""
    sleeper = make()
    sleeper.program = (sys.executable, "-S", "-c", STAYS)
    sleeper.is_mine = lambda command: tuple(command) == sleeper.program  # type: ignore[method-assign]
    stepped(sleeper, lambda: sleeper.answer == "well" and "ready" in sleeper.log_path.read_text())
    first = sleeper.process
    assert first is not None
    sleeper.retire(first)
    assert (sleeper.process, sleeper.answer) == (None, None)
    sleeper.step()
    assert sleeper.process not in (None, first)
    monkeypatch.setattr(supervised, "_HUNG_SECONDS", 0.0)
    sleeper.says = None
    second = sleeper.process
    stepped(sleeper, lambda: sleeper.process != second)
    sleeper.look_after_retired()
    assert first.alive()
    monkeypatch.setattr(supervised.time, "monotonic", lambda: time.time() + 1e9)
    sleeper.look_after_retired()
    assert first.wait(10)


def test_a_hung_one_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs and says nothing for its whole time: another one takes its place."""
    monkeypatch.setattr(supervised, "_HUNG_SECONDS", 0.02)
    monkeypatch.setattr(supervised, "_LOOK_SECONDS", 0.01)
    sleeper = make()
    sleeper.says = None
    sleeper.step()
    first = sleeper.process
    assert first is not None
    stepped(sleeper, lambda: sleeper.process != first)
    assert not first.alive()
    assert "did not answer" in str(sleeper.problem)
