"""Compile the gateway's hot path to C: `python -m nexus.environments.native_gateway FOLDER`.

FOLDER gets a copy of the packages `gateway` and `serving` whose hot modules are extension modules, made by mypyc from
the same typed Python (ADR 0007). Run it by `PYTHONPATH=FOLDER python -P -m gateway`; without `-P` the working folder
stands before FOLDER. Needs gcc, the development environment and about a minute. The folder is replaced whole, and only
when the compilation has succeeded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("gateway", "serving")

MODULES: Final = (
    "gateway/api/call.py",
    "gateway/api/errors.py",
    "gateway/api/formats/anthropic_messages.py",
    "gateway/api/formats/base.py",
    "gateway/api/formats/openai_chat.py",
    "gateway/api/formats/openai_responses.py",
    "gateway/api/forward.py",
    "gateway/api/hot.py",
    "gateway/api/intake.py",
    "gateway/api/model_name.py",
    "gateway/api/relay.py",
    "gateway/auth/authenticator.py",
    "gateway/auth/credential.py",
    "gateway/exchange.py",
    "gateway/limits/batches.py",
    "gateway/limits/calendar.py",
    "gateway/limits/counter.py",
    "gateway/limits/estimates.py",
    "gateway/limits/flight.py",
    "gateway/limits/limiter.py",
    "gateway/limits/memory.py",
    "gateway/limits/plan.py",
    "gateway/limits/reservation.py",
    "gateway/limits/shared.py",
    "gateway/limits/stock.py",
    "gateway/limits/verdict.py",
    "gateway/limits/wire.py",
    "gateway/pieces.py",
    "gateway/request_reader.py",
    "gateway/resilience/blame.py",
    "gateway/resilience/breaker.py",
    "gateway/resilience/concurrency.py",
    "gateway/resilience/deadline.py",
    "gateway/resilience/floor.py",
    "gateway/resilience/queue.py",
    "gateway/resilience/retry.py",
    "gateway/resilience/trial.py",
    "gateway/resilience/window.py",
    "gateway/routing/attempts.py",
    "gateway/routing/request.py",
    "gateway/routing/rules.py",
    "gateway/routing/split.py",
    "gateway/telemetry/request_stats.py",
    "gateway/telemetry/tracing.py",
    "gateway/telemetry/user_hash.py",
    "gateway/upstream/answer.py",
    "gateway/upstream/connection.py",
    "gateway/upstream/pool.py",
    "gateway/upstream/sse.py",
    "gateway/upstream/usage.py",
)
"""What a request passes through, but for classes whose base is a library's (protocols of asyncio and uvicorn) or that
are referred to weakly: mypyc cannot compile those."""

_SETUP: Final = """\
import sys
from setuptools import setup
from mypyc.build import mypycify
setup(name="native-gateway", packages=[], py_modules=[], ext_modules=mypycify(sys.argv.pop().split(","), opt_level="3"))
"""


class CompileError(Exception):
    """mypyc or the C compiler failed; the message ends with their last words."""


def build(folder: Path) -> None:
    """Compile into a folder.

    Raises:
        CompileError: It did not work; what was there stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        work = Path(scratch) / "work"
        work.mkdir()
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, work / package, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", work)
        (work / "setup.py").write_text(_SETUP)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", ",".join(MODULES)]
        done = subprocess.run(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise CompileError(f"expected mypyc and gcc to compile the gateway; they failed:\n{done.stdout[-3000:]}")
        shutil.rmtree(work / "build")
        for left in ("setup.py", "pyproject.toml"):
            (work / left).unlink()
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        work.rename(folder)


def main(arguments: list[str]) -> int:
    """Compile into the folder that is named; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(
            "expected one argument, the folder to fill: python -m nexus.environments.native_gateway FOLDER\n"
        )
        return 2
    try:
        build(Path(arguments[0]).absolute())
    except CompileError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"native  {len(MODULES)} modules of the gateway compiled into {arguments[0]}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
