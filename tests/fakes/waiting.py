"""Waiting for a condition instead of a time, on the event loop and in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the loop run until the condition holds.

    Raises:
        TimeoutError: It did not hold in time; generous, for other work may have the machine.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, also of what sets no event
            await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Block until the condition holds.

    Raises:
        AssertionError: It did not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.01)
