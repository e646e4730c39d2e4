"""State of one endpoint that outlives snapshots: how many requests are under way, its breaker, limit and line.

An endpoint is one address of one service. States are kept as long as a snapshot names them or a request uses them
(weak references), so a reload changes nothing for endpoints that stay, and nothing is left of those that went.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum
from weakref import WeakValueDictionary

from gateway.resilience.breaker import Breaker
from gateway.resilience.concurrency import ConcurrencyLimit
from gateway.resilience.queue import Waiter, WaitingLine
from serving.contracts.authentication import Priority
from serving.contracts.resilience import Breaker as BreakerPolicy
from serving.contracts.resilience import Overload


class Result(IntEnum):
    """What a request that has left says about the endpoint."""

    ANSWERED = 0
    """It answered, also with 400 and its like: those are the client's doing."""
    FAILED = 1
    """Refused, reset, broken, 5xx, or stopped in the middle."""
    OVERLOADED = 2
    """429 or 503, or no first token in time: a failure for the breaker, and the limit falls."""
    UNKNOWN = 3
    """The client left, or the request was cut short for another reason."""


class EndpointState:
    """What the gateway knows of one endpoint; used from the event loop's thread alone.

    Attributes:
        service: The service's name.
        address: Where it answers, as text.
        running: Requests under way.
        outstanding: Tokens that requests under way are expected to take.
        held_until: When the endpoint may be asked again, as it has said itself (monotonic seconds).
        drained: Whether somebody has taken it out of service for now: it gets no new requests.
    """

    __slots__ = (
        "__weakref__", "_clock", "_line", "address", "breaker", "drained", "held_until", "limiter", "outstanding",
        "running", "service",
    )  # fmt: skip

    def __init__(
        self,
        service: str,
        address: str,
        breaker: BreakerPolicy,
        overload: Overload,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self.address = address
        self.running = 0
        self.outstanding = 0
        self.drained = False
        self.breaker = Breaker(breaker)
        self.limiter = ConcurrencyLimit(overload)
        self._clock = clock
        self.held_until = 0.0
        self._line: WaitingLine | None = None

    def usable(self, now: float) -> bool:
        """Tell whether new requests may go here: not drained, not held back, and its breaker lets them."""
        return not self.drained and now >= self.held_until and self.breaker.allows(now)

    @property
    def full(self) -> bool:
        """Whether a request has to wait."""
        return self.running >= self.limiter.limit or self.queued > 0

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return self._line.size if self._line is not None else 0

    def try_enter(self, tokens: int) -> float:
        """Let a request in if it need not wait.

        Args:
            tokens: What it is expected to take, for `outstanding`; give the same number to `leave`.

        Returns:
            When it entered (monotonic seconds), for `first_token` and `leave`; 0.0 when it has to wait.
        """
        line = self._line
        if self.running >= self.limiter.limit or (line is not None and line.size):
            return 0.0
        return self._let_in(tokens, self._clock())

    async def enter(self, priority: Priority, tokens: int, deadline: float) -> float:
        """Let a request in, waiting for its turn: until its deadline, and at most the policy's `max_wait_seconds`.

        Returns:
            When it entered, as `try_enter`.

        Raises:
            OverloadedError: The line is full, its time is over, or a higher class took its place.
        """
        entered = self.try_enter(tokens)
        if entered:
            return entered
        line = self._line
        if line is None:
            line = self._line = WaitingLine()
        policy, now = self.limiter.policy, self._clock()
        seconds = min(deadline - now, policy.max_wait_seconds)
        if seconds <= 0:
            raise line.refusal("its time is over")
        waiter = Waiter(priority, tokens, asyncio.get_running_loop().create_future())
        line.join(waiter, max_size=policy.max_queued, now=now)
        try:
            async with asyncio.timeout(seconds):
                await waiter.future
        except TimeoutError:
            if not waiter.entered:
                line.leave(waiter)
                raise line.refusal(f"it waited for {seconds:.1f} s") from None
        except BaseException:
            line.leave(waiter)
            if waiter.future.done() and not waiter.future.cancelled():
                waiter.future.exception()  # a refusal that came at the same moment has been heard
            if waiter.entered:  # let in and cancelled at the same moment
                self.leave(waiter.entered, tokens, Result.UNKNOWN)
            raise
        return waiter.entered

    def first_token(self, entered: float, prompt_bytes: int) -> None:
        """Tell that a request's first token has come, as soon as it has; `prompt_bytes` is the body's length."""
        self.limiter.first_token(prompt_bytes, entered=entered, running=self.running, now=self._clock())
        if self._line is not None and self._line.size:
            self._admit()

    def leave(self, entered: float, tokens: int, result: Result, *, whole: bool = False) -> None:
        """Tell that a request has ended; exactly once for each that entered.

        Args:
            entered: What `try_enter` or `enter` returned.
            tokens: What was given to it.
            result: What the request says about the endpoint.
            whole: Whether the answer was not streamed, so that there was no `first_token`.
        """
        now = self._clock()
        if result is Result.OVERLOADED:
            self.limiter.refused(entered=entered, running=self.running, now=now)
        elif whole and result is Result.ANSWERED:
            self.limiter.whole_answer(entered=entered, running=self.running, now=now)
        self.running -= 1
        self.outstanding -= tokens
        was_closed = self.breaker.closed
        self.breaker.record(_FAILED[result], entered, now)
        if self._line is not None and self._line.size:
            if was_closed and not self.breaker.closed:
                self._line.dismiss("its endpoint failed")
            else:
                self._admit()

    def drain(self, drained: bool) -> None:
        """Take the endpoint out of service, or back; requests under way go on, those that wait go elsewhere."""
        self.drained = drained
        if drained and self._line is not None:
            self._line.dismiss("its endpoint is taken out of service")

    def hold(self, seconds: float) -> None:
        """Send nothing here for some time, as the endpoint has asked (`Retry-After`)."""
        self.held_until = self._clock() + seconds

    def _let_in(self, tokens: int, now: float) -> float:
        self.running += 1
        self.outstanding += tokens
        if not self.breaker.closed:
            self.breaker.entered(now)
        return now

    def _admit(self) -> None:
        line = self._line
        now = self._clock()
        while line is not None and line.size and self.running < self.limiter.limit:
            waiter = line.next(now)
            if waiter is not None and not waiter.future.done():
                waiter.entered = self._let_in(waiter.tokens, now)
                waiter.future.set_result(None)


_FAILED: tuple[bool | None, ...] = (False, True, True, None)


class EndpointRegistry:
    """All endpoint states by service and address; snapshots are built from it off the event loop's thread.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: WeakValueDictionary[tuple[str, str], EndpointState] = WeakValueDictionary()

    def state(self, service: str, address: str, breaker: BreakerPolicy, overload: Overload) -> EndpointState:
        """Return the endpoint's state, a fresh one if it is new, with these policies from now on."""
        state = self._states.get((service, address))
        if state is None:
            state = EndpointState(service, address, breaker, overload, self._clock)
            self._states[service, address] = state
        else:
            state.breaker.policy = breaker
            state.limiter.policy = overload
        return state

    def all(self) -> tuple[EndpointState, ...]:
        """Return the states of all endpoints."""
        return tuple(self._states.values())

    def of_service(self, service: str) -> tuple[EndpointState, ...]:
        """Return the states of a service's endpoints, by address."""
        states = (reference() for reference in self._states.valuerefs())  # a list made at once: another thread may add
        found = [state for state in states if state is not None and state.service == service]
        return tuple(sorted(found, key=lambda state: state.address))
