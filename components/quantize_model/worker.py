"""Child side of the workshop: takes orders, runs their programs, answers; started by path with no package of ours.

It and the programs for foreign environments import the standard library and the tool only, because our packages need
libraries that those environments lack. Orders come on stdin and answers go to stdout, one JSON object a line; what a
tool prints goes to stderr, which is the log.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "os error 28")
_PROGRAMS: dict[str, ModuleType] = {}


def main(parent: int) -> int:
    """Serve orders until stdin ends; `parent` is the process that must not be survived."""
    _die_with(parent)
    _offer_to_out_of_memory_killer()
    orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for line in orders:
        answers.write(json.dumps(_serve(json.loads(line))) + "\n")
        answers.flush()
    return 0


def _serve(order: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    try:
        program = _program(order["program"])
        if hasattr(program, "load"):
            program.load()
        loaded = time.monotonic()
        result = program.run(order["arguments"])
    except Exception as exc:  # noqa: BLE001 - process edge: logged here, reported by the parent
        traceback.print_exc()
        return {"ok": False, "error": f"{type(exc).__name__}: {exc}"[:2000], "storage_full": _is_storage_full(exc)}
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    ended = time.monotonic()
    return {"ok": True, "result": result, "loading_seconds": loaded - started, "seconds": ended - started}


def _program(path: str) -> ModuleType:
    if path not in _PROGRAMS:
        spec = importlib.util.spec_from_file_location(f"nexus_program_{Path(path).stem}", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"expected a Python file at {path}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _PROGRAMS[path] = module
    return _PROGRAMS[path]


def _is_storage_full(exc: BaseException | None) -> bool:
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if any(words in str(exc) for words in _FULL_WORDS):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the step dies, even inside a library's native code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the step that started this worker is gone")


def _offer_to_out_of_memory_killer() -> None:
    """Be the first to go when memory runs out: the step, an engine or the gateway must not go in its place."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError as exc:
        print(f"oom_score_adj stays as it is: {exc}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
