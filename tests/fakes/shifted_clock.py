"""Run the gateway with a wall clock that a test sets: `python -m tests.fakes.shifted_clock FILE`.

FILE holds eight bytes, the seconds by which `time.time` is ahead. Clocks of durations stay as they are, as they do when
an operator or a time server sets a machine's clock.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

_SHIFT = struct.Struct("<d")


class ClockFile:
    """What a test holds of the clock of a process it started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: float) -> None:
        """Put the clock so many seconds ahead, at once."""
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(_SHIFT.pack(seconds))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.fakes.shifted_clock", str(self.path)]


def _shift_by(path: str) -> None:
    with Path(path).open("rb") as file:
        shown = mmap.mmap(file.fileno(), _SHIFT.size, access=mmap.ACCESS_READ)
    real = time.time
    time.time = lambda: real() + _SHIFT.unpack(shown)[0]


if __name__ == "__main__":
    _shift_by(sys.argv[1])
    from gateway.__main__ import main  # after the clock: modules take `time.time` when they are imported

    raise SystemExit(main([]))
