"""Waiting for a condition instead of a time, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the loop run until the condition holds.

    Raises:
        TimeoutError: It did not hold in time; generous, for other work may have the machine.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, also of what sets no event
            await asyncio.sleep(0.001)
