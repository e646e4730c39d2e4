"""A worker answers, or its death is explained with the tool's last words; it never outlives its limits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import components.quantize_model.worker as worker_program
from components.quantize_model.errors import RecipeError, StorageFullError
from components.quantize_model.worker_process import Answer, Limits, WorkerProcess
from tests.fakes.quantizers import write_program

ROOMY = Limits(max_seconds=15, max_memory_bytes=1 << 34)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    process = WorkerProcess(
        Path(sys.executable), log=tmp_path / "logs" / "tool.log", env={"PATH": os.defpath}, folder=tmp_path
    )
    yield process
    process.kill()


def ask(worker: WorkerProcess, folder: Path, kind: str, limits: Limits = ROOMY) -> Answer:
    (folder / "out").mkdir(exist_ok=True)
    arguments = {"base": str(folder), "output": str(folder / "out")}
    return worker.ask(write_program(folder, kind), arguments, limits, lambda _seconds, _line: None)


def test_one_process_serves_many_orders(worker: WorkerProcess, tmp_path: Path) -> None:
    """What a tool has loaded stays loaded: both orders ran in the same process."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("x")
    assert ask(worker, tmp_path, "copy").result == ask(worker, tmp_path, "copy").result == worker.pid


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fail", "ValueError: cannot round this"),
        ("crash", "crashed with signal 6 (SIGABRT)"),
        ("leave", "ended with exit code 3"),
    ],
)
def test_death_is_explained(worker: WorkerProcess, tmp_path: Path, kind: str, words: str) -> None:
    """A failure names what happened and what the tool printed last, and the worker is gone."""
    with pytest.raises(RecipeError) as caught:
        ask(worker, tmp_path, kind)
    assert words in str(caught.value)
    assert "tool speaks" in str(caught.value)
    assert not psutil.pid_exists(worker.pid)


def test_hang_is_stopped_in_time(worker: WorkerProcess, tmp_path: Path) -> None:
    """A tool that does not end is stopped at its limit, with the limit's name."""
    with pytest.raises(RecipeError, match=r"within 0\.1 s \(max_seconds"):
        ask(worker, tmp_path, "hang", Limits(0.1, 1 << 34))
    assert not psutil.pid_exists(worker.pid)


def test_growth_is_stopped(worker: WorkerProcess, tmp_path: Path) -> None:
    """A tool that takes more memory than it may is stopped before the machine suffers."""
    with pytest.raises(RecipeError, match=r"at most 104\.9 MB of memory"):
        ask(worker, tmp_path, "grow", Limits(15, 100 << 20))


@pytest.mark.parametrize("kind", ["full", "full-inside"])
def test_full_disk_is_no_fault_of_the_recipe(worker: WorkerProcess, tmp_path: Path, kind: str) -> None:
    """A full disk is told apart, also where a library hides the error number in its text."""
    with pytest.raises(StorageFullError, match="free some"):
        ask(worker, tmp_path, kind)


def test_children_of_a_tool_die_with_it(worker: WorkerProcess, tmp_path: Path) -> None:
    """What a tool started (a compiler, say) does not stay behind."""
    with pytest.raises(RecipeError) as caught:
        ask(worker, tmp_path, "child", Limits(0.2, 1 << 34))
    child = next(int(line[4:]) for line in str(caught.value).splitlines() if line[4:].isdigit())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_is_told_with_the_last_line(worker: WorkerProcess, tmp_path: Path) -> None:
    """While a tool works, the caller hears how long it has taken and what it printed last."""
    heard: list[tuple[float, str]] = []
    worker.ask(write_program(tmp_path, "slow"), {}, ROOMY, lambda *told: heard.append(told))
    assert heard[-1][1] == "tool speaks"
    assert [seconds for seconds, _ in heard] == sorted(seconds for seconds, _ in heard)


def test_worker_dies_with_the_step(tmp_path: Path) -> None:
    """`kill -9` of the step leaves no worker behind, even one that is busy."""
    script = (
        "import os, sys; from pathlib import Path; "
        "from components.quantize_model.worker_process import Limits, WorkerProcess; "
        f"w = WorkerProcess(Path(sys.executable), log=Path({str(tmp_path / 'log')!r}), env=dict(os.environ), "
        f"folder=Path({str(tmp_path)!r})); print(w.pid, flush=True); "
        f"w.ask(Path({str(write_program(tmp_path, 'hang'))!r}), {{}}, Limits(50, 1 << 34), lambda *_: None)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as step:
        assert step.stdout is not None
        worker = int(step.stdout.readline())
        deadline = time.monotonic() + 10
        while "tool speaks" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        step.kill()
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_worker_does_not_start_under_a_dead_step() -> None:
    """A worker whose step is already gone ends by itself: its parent is not the process it was started for."""
    done = subprocess.run(
        [sys.executable, "-P", worker_program.__file__, "1"], input=b"", capture_output=True, check=False, timeout=10
    )
    assert done.returncode != 0
    assert b"is gone" in done.stderr
