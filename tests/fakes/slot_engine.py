"""An engine of exactly known capacity: so many slots, each busy with one request for a time that is drawn evenly.

Who finds all slots busy waits inside, first come, first served. The first token comes at a fixed time after a request
has got its slot. Times differ between requests: with equal ones, all slots would become free at the same moments.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class SlotEngine:
    slots: int = 16
    seconds: float = 0.2
    """Mean time in a slot; of one request from half of it to one and a half times."""
    first_seconds: float = 0.04
    seed: int = 3
    most_waiting: int = 0
    _inside: int = field(default=0, init=False)

    @property
    def capacity(self) -> float:
        """Requests a second that it answers with all slots busy."""
        return self.slots / self.seconds

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlotEngine]:
        self._free = asyncio.Semaphore(self.slots)
        self._chance = random.Random(self.seed)
        yield self

    async def generate(self, _prompt_bytes: int, _tokens: int, on_first: Callable[[], None]) -> None:
        self._inside += 1
        self.most_waiting = max(self.most_waiting, self._inside - self.slots)
        async with self._free:
            seconds = self.seconds * self._chance.uniform(0.5, 1.5)
            await asyncio.sleep(self.first_seconds)
            on_first()
            await asyncio.sleep(seconds - self.first_seconds)
        self._inside -= 1
