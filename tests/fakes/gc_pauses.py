"""`python -m tests.fakes.gc_pauses FILE`: the gateway, which writes to FILE at its end how long collections stopped it.

Per generation: how many there were, how many objects they freed, and the longest in milliseconds, as wall time and as
time of the processor: other work on the machine stretches only the first.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.__main__ import main


@dataclass
class Pauses:
    """Collections of one generation."""

    count: int = 0
    freed: int = 0
    longest_ms: float = 0.0
    longest_cpu_ms: float = 0.0


def record(file: Path) -> None:
    """Measure every collection from now on, and write the result when the process ends."""
    found = [Pauses(), Pauses(), Pauses()]
    begun = begun_cpu = 0.0

    def collected(phase: str, info: dict[str, Any]) -> None:
        nonlocal begun, begun_cpu
        if phase == "start":
            begun, begun_cpu = time.perf_counter(), time.thread_time()
            return
        one = found[info["generation"]]
        one.count += 1
        one.freed += info["collected"]
        one.longest_ms = max(one.longest_ms, 1e3 * (time.perf_counter() - begun))
        one.longest_cpu_ms = max(one.longest_cpu_ms, 1e3 * (time.thread_time() - begun_cpu))

    def write() -> None:
        gc.callbacks.remove(collected)
        file.write_text(json.dumps([asdict(one) for one in found]))

    def begin() -> None:
        gc.callbacks.append(collected)
        atexit.register(write)

    freeze = gc.freeze

    def serving() -> None:  # the gateway freezes what its start has made, then serves
        gc.freeze = freeze
        freeze()
        begin()

    gc.freeze = serving


if __name__ == "__main__":
    record(Path(sys.argv[1]))
    raise SystemExit(main([]))
