"""Parent side of one worker: start it, give it an order, bound its time and memory, know its last words."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from components.quantize_model.errors import RecipeError, StorageFullError
from serving.wording import size

_WORKER = Path(__file__).with_name("worker.py")
_POLL_SECONDS = 0.1
_TAIL_LINES = 12
_TAIL_BYTES = 16_384
_TERMINAL_CODES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Limits:
    """Bounds of one order: wall time, and resident memory of the worker with its children."""

    max_seconds: float
    max_memory_bytes: int


@dataclass(frozen=True)
class Answer:
    """What a program returned; `loading_seconds` of `seconds` went into importing the tool."""

    result: Any
    seconds: float
    loading_seconds: float


class WorkerProcess:
    """One child process that serves orders one after another until it fails."""

    def __init__(self, python: Path, *, log: Path, env: Mapping[str, str], folder: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [str(python), "-P", str(_WORKER), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(env),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, also its process group's."""
        return self._process.pid

    def ask(
        self, program: Path, arguments: Mapping[str, object], limits: Limits, waiting: Callable[[float, str], None]
    ) -> Answer:
        """Run one program in the worker; the worker is dead when this raises.

        Args:
            program: File with `run(arguments)`, perhaps `load()`.
            arguments: JSON-serialisable.
            limits: What ends it early.
            waiting: Called while it works, with seconds so far and the tool's last line.

        Raises:
            RecipeError: The program failed, died, or passed a limit; with the tool's last lines.
            StorageFullError: It met a full disk.
        """
        begin = self._log.stat().st_size
        try:
            line = self._exchange({"program": str(program), "arguments": dict(arguments)}, limits, begin, waiting)
        except BaseException:
            self.kill()
            raise
        answer = json.loads(line)
        if answer["ok"]:
            return Answer(answer["result"], answer["seconds"], answer["loading_seconds"])
        self.kill()
        if answer["storage_full"]:
            raise StorageFullError(
                f"expected space for the candidates; {answer['error']}: free some, then run it again"
            )
        raise RecipeError(f"{answer['error']}{self._last_words(begin)}")

    def kill(self) -> None:
        """End the worker and every child of it at once; nothing in it is worth saving."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _exchange(
        self, order: Mapping[str, object], limits: Limits, begin: int, waiting: Callable[[float, str], None]
    ) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        started = time.monotonic()
        received = b""
        with suppress(BrokenPipeError):  # a dead worker is seen as the end of its answers below
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if selector.select(_POLL_SECONDS):
                    chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        raise RecipeError(f"{self._how_it_died()}{self._last_words(begin)}")
                    received += chunk
                    continue
                seconds = time.monotonic() - started
                self._check(seconds, limits, begin)
                waiting(seconds, self._last_line(begin))
        return received

    def _check(self, seconds: float, limits: Limits, begin: int) -> None:
        if seconds > limits.max_seconds:
            raise RecipeError(
                f"expected an end within {limits.max_seconds:g} s (max_seconds of the recipe); it was still working "
                f"and was stopped{self._last_words(begin)}"
            )
        used = self._memory_bytes()
        if used > limits.max_memory_bytes:
            raise RecipeError(
                f"expected at most {size(limits.max_memory_bytes)} of memory (80 % of what was free); it "
                f"used {size(used)} and was stopped: use a larger machine or a smaller model"
                f"{self._last_words(begin)}"
            )

    def _memory_bytes(self) -> int:
        try:
            root = psutil.Process(self._process.pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return 0
        total = 0
        for process in family:
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def _how_it_died(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "the tool's process was killed (signal 9), most likely because the machine ran out of memory"
        if code < 0:
            return f"the tool's process crashed with signal {-code} ({signal.Signals(-code).name})"
        return f"the tool's process ended with exit code {code} before it was done"

    def _lines(self, begin: int) -> list[str]:
        with self._log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(begin, end - _TAIL_BYTES))
            text = _TERMINAL_CODES.sub("", file.read().decode(errors="replace"))
        return [line.rstrip()[:300] for line in re.split(r"[\r\n]+", text) if line.strip()]

    def _last_line(self, begin: int) -> str:
        return next(reversed(self._lines(begin)), "")

    def _last_words(self, begin: int) -> str:
        lines = self._lines(begin)[-_TAIL_LINES:]
        return "".join(f"\n  | {line}" for line in lines) + f"\n  whole log: {self._log}"
