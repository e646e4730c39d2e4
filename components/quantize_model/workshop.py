"""Workshop: one worker an environment, reused from recipe to recipe, so that a tool's slow import is paid once.

A worker that fails, hangs, or grows too large is killed and the next recipe gets a new one: no recipe can harm another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from components.quantize_model.errors import QuantizeModelError
from components.quantize_model.tools import interpreter
from components.quantize_model.worker_process import Answer, Limits, WorkerProcess
from serving.settings import NexusSettings, inherited_environment

_MEMORY_FRACTION = 0.8
_HEARTBEAT_SECONDS = 15.0
_ONE_THREAD_BYTES = 256 * 1024 * 1024
"""Below this size of weights one thread is as fast as two on idle cores (1.7 s for W8A8 of 0.8M parameters) and, with
other work on the cores, keeps that time, while two threads that wait for each other took 8 to 50 s."""


class Workshop:
    """Workers of one step; leaving the context ends them all."""

    def __init__(self, settings: NexusSettings, *, logs: Path, folder: Path, weights_bytes: int) -> None:
        self._settings = settings
        self._logs = logs
        self._folder = folder
        self._weights_bytes = weights_bytes
        self._workers: dict[str | None, WorkerProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()

    def run(
        self,
        environment: str | None,
        program: Path,
        arguments: Mapping[str, object],
        *,
        max_seconds: float,
        say: Callable[[str], None],
    ) -> Answer:
        """Run a program in an environment's worker.

        Raises:
            RecipeError: The environment is missing, or the program failed, died, or passed a limit.
            StorageFullError: It met a full disk.
        """
        worker = self._workers.pop(environment, None) or self._start(environment)
        limits = Limits(max_seconds, int(psutil.virtual_memory().available * _MEMORY_FRACTION))
        try:
            answer = worker.ask(program, arguments, limits, _heartbeat(say))
        except QuantizeModelError:
            raise
        except BaseException:
            worker.kill()
            raise
        self._workers[environment] = worker
        return answer

    def _start(self, environment: str | None) -> WorkerProcess:
        return WorkerProcess(
            interpreter(self._settings, environment),
            log=self._logs / f"quantize-{environment or 'core'}.log",
            env=self._environment(environment),
            folder=self._folder,
        )

    def _environment(self, environment: str | None) -> dict[str, str]:
        """Environment variables of a worker: ours by NEXUS_HOME, offline, caches under the home."""
        inherited = inherited_environment()  # a worker needs PATH, proxies and devices of this process
        if environment is not None:
            inherited.pop("PYTHONPATH", None)
        cache = self._settings.home / "cache" / "tools"
        small = {"OMP_NUM_THREADS": "1"} if self._weights_bytes < _ONE_THREAD_BYTES else {}
        return {
            **inherited,
            **small,
            "NEXUS_HOME": str(self._settings.home),
            "HF_HOME": str(cache / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GPTQMODEL_TORCH_EXTENSIONS_DIR": str(cache / "gptqmodel"),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
        }


def _heartbeat(say: Callable[[str], None]) -> Callable[[float, str], None]:
    """Say every few seconds that a long recipe is alive, and what its tool printed last."""
    told = 0.0

    def waiting(seconds: float, line: str) -> None:
        nonlocal told
        if seconds - told >= _HEARTBEAT_SECONDS:
            told = seconds
            say(f"{seconds:.0f} s: {line[-120:]}" if line else f"{seconds:.0f} s")

    return waiting
