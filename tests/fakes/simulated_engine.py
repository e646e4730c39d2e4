"""An engine that batches, in virtual time: what admission control meets, without a model.

Each step gives every sequence of the batch one token. A step lasts a base time, a little for each sequence, and the
time to read the prompts that join in it. Who finds the batch full waits inside, first come, first served.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.errors import OverloadedError
from gateway.resilience.endpoint import EndpointState, Result
from serving.contracts.authentication import Priority
from tests.fakes.slot_engine import SlotEngine


class Sequence:
    def __init__(self, prompt_bytes: int, tokens: int, on_first: Callable[[], None]) -> None:
        self.prompt_bytes, self.left, self.on_first = prompt_bytes, tokens, on_first
        self.started = False
        self.done = asyncio.get_running_loop().create_future()


@dataclass
class SimulatedEngine:
    max_batch: int = 16
    step_seconds: float = 0.02
    per_sequence_seconds: float = 0.0001
    bytes_per_second: float = 400_000.0
    """Reading of prompts."""
    waiting: deque[Sequence] = field(default_factory=deque)
    batch: list[Sequence] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    most_waiting: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SimulatedEngine]:
        async with asyncio.TaskGroup() as tasks:
            steps = tasks.create_task(self._steps())
            yield self
            steps.cancel()

    async def generate(self, prompt_bytes: int, tokens: int, on_first: Callable[[], None]) -> None:
        sequence = Sequence(prompt_bytes, tokens, on_first)
        self.waiting.append(sequence)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        self.wake.set()
        await sequence.done

    async def _steps(self) -> None:
        while True:
            if not self.batch and not self.waiting:
                self.wake.clear()
                await self.wake.wait()
            joined = 0
            while self.waiting and len(self.batch) < self.max_batch:
                sequence = self.waiting.popleft()
                joined += sequence.prompt_bytes
                self.batch.append(sequence)
            busy = self.step_seconds + self.per_sequence_seconds * len(self.batch) + joined / self.bytes_per_second
            await asyncio.sleep(busy)
            self.batch = [sequence for sequence in self.batch if not self._token(sequence)]

    def _token(self, sequence: Sequence) -> bool:
        if not sequence.started:
            sequence.started = True
            sequence.on_first()
        sequence.left -= 1
        if sequence.left > 0:
            return False
        sequence.done.set_result(None)
        return True


@dataclass
class Load:
    """Requests that come whether or not the last have been answered, and how they fared.

    `times` are seconds from arrival to the last token, and `firsts` to the first, by priority.
    """

    state: EndpointState
    engine: SimulatedEngine | SlotEngine
    per_second: float
    seconds: float
    high: float = 0.1
    low: float = 0.3
    seed: int = 7
    prompt_bytes: tuple[int, int] = (200, 4000)
    tokens: tuple[int, int] = (20, 60)
    deadline_seconds: float = 30.0
    cached: float = 0.0
    """Share of prompts that the engine need not read."""
    streamed: bool = True
    """Whether the gateway hears of first tokens."""
    times: dict[Priority, list[float]] = field(default_factory=lambda: {priority: [] for priority in Priority})
    firsts: dict[Priority, list[float]] = field(default_factory=lambda: {priority: [] for priority in Priority})
    shed: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))

    async def run(self) -> Load:
        rng = random.Random(self.seed)
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        async with asyncio.TaskGroup() as tasks:
            while loop.time() < end:
                draw = rng.random()
                priority = (
                    Priority.HIGH if draw < self.high else Priority.LOW if draw > 1 - self.low else Priority.NORMAL
                )
                cached = rng.random() < self.cached
                prompt = rng.randint(*self.prompt_bytes)
                tasks.create_task(self._one(priority, prompt, rng.randint(*self.tokens), cached=cached))
                await asyncio.sleep(rng.expovariate(self.per_second))
        return self

    async def _one(self, priority: Priority, prompt_bytes: int, tokens: int, *, cached: bool) -> None:
        loop, state = asyncio.get_running_loop(), self.state
        arrived = loop.time()
        try:
            entered = await state.enter(priority, tokens, arrived + self.deadline_seconds)
        except OverloadedError:
            self.shed[priority] += 1
            return

        def on_first() -> None:
            self.firsts[priority].append(loop.time() - arrived)
            if self.streamed:
                state.first_token(entered, prompt_bytes)

        await self.engine.generate(0 if cached else prompt_bytes, tokens, on_first)
        state.leave(entered, tokens, Result.ANSWERED, whole=not self.streamed)
        self.times[priority].append(loop.time() - arrived)

    def served_within(self, seconds: float) -> float:
        """Return how many a second were answered within so many seconds."""
        return sum(time <= seconds for times in self.times.values() for time in times) / self.seconds
