"""Log files of detached processes: bounded in size, and their last lines for error messages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 8 * 1024 * 1024
KEPT = 3
_TAIL_BYTES = 64 * 1024


def start_fresh(path: Path) -> None:
    """Move a log of an earlier run aside (`.1`, up to `.3`), so that the file holds the next run only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        return
    for number in range(KEPT, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))
    path.replace(path.with_name(f"{path.name}.1"))


def bound_size(folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Copy every log that has grown too long to `.1` and empty it in place.

    Writers append (`O_APPEND`), so they go on at the start; lines written between copy and cut are lost.
    """
    for path in folder.glob("*.log"):
        if path.stat().st_size > max_bytes:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def tail(path: Path, lines: int = 20) -> tuple[str, ...]:
    """Return the last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-lines:]


def engine_log(folder: Path, service: str) -> Path:
    """Return the log of a service's engine."""
    return folder / f"engine-{service}.log"


def with_tail(message: str, path: Path) -> str:
    """Add a log's last lines to a message."""
    last = tail(path)
    shown = "\n".join(f"    {line}" for line in last) if last else "    (nothing was logged)"
    return f"{message}\n  last lines of {path}:\n{shown}"
