"""The counters of batch.lua in this process' memory: what `local-share` decides by while Redis does not answer.

Same rules, same order of checks, same numbers; a test compares the two on random sequences.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.limits.calendar import DAY_US, day_of, first_day, month_of
from gateway.limits.counter import MINUTE_US, Counter, Limit
from gateway.limits.verdict import Answer, Status

_HOUR_US: Final = 60 * MINUTE_US
_CONCURRENT_WAIT_US: Final = 1_000_000
"""When a request under way will end is not known: one second is what clients wait anyway."""

Receipt = tuple[tuple[float, float], ...]
"""By counter: arrival times of requests and tokens right after a reservation, with all that had been given back."""


@dataclass(slots=True)
class State:
    """What one counter has counted; the same numbers as in batch.lua."""

    day: int
    month: int
    r_tat: float = 0.0
    r_back: float = 0.0
    t_tat: float = 0.0
    t_back: float = 0.0
    used: int = 0
    d_tokens: float = 0.0
    d_nano: float = 0.0
    m_tokens: float = 0.0
    m_nano: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation: what was taken, and what is needed to give it back."""

    counters: Sequence[Counter]
    tokens: int
    nano: int
    day: int
    month: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Moment:
    """A time with its calendar."""

    now: float
    day: int
    month: int

    @classmethod
    def of(cls, now_us: float) -> Moment:
        """Return the moment of a time in microseconds since 1970."""
        day = day_of(now_us)
        return cls(now_us, day, month_of(day))

    @property
    def day_end(self) -> float:
        """Microseconds until the day ends."""
        return (self.day + 1) * DAY_US - self.now

    @property
    def month_end(self) -> float:
        """Microseconds until the month ends."""
        return first_day(self.month + 1) * DAY_US - self.now


class MemoryCounters:
    """Counters of this process; the least recently used are forgotten.

    Args:
        size: Counters held at most.
    """

    def __init__(self, size: int = 65_536) -> None:
        self._size = size
        self._states: OrderedDict[bytes, State] = OrderedDict()

    def reserve(self, counters: Sequence[Counter], tokens: int, nano: int, now_us: float) -> tuple[Answer, Hold | None]:
        """Take from all counters or from none; the limit that makes the request wait longest is named."""
        moment = Moment.of(now_us)
        states = [self._state(counter, moment) for counter in counters]
        wait, who, what = 0.0, 0, 0
        for number, (counter, state) in enumerate(zip(counters, states, strict=True), 1):
            for limit, this_wait in _waits(counter, state, tokens, nano, moment):
                if this_wait > wait:
                    wait, who, what = this_wait, number, limit
        hold: Hold | None = None
        if not who:
            pairs = zip(counters, states, strict=True)
            receipt = tuple(_take(counter, state, tokens, nano, moment) for counter, state in pairs)
            hold = Hold(counters, tokens, nano, moment.day, moment.month, receipt)
        status = Status.DENIED if who else Status.GRANTED
        return (status, who, what, *_tightest(counters, states, wait, moment)), hold

    def settle(self, hold: Hold, tokens: int, nano: int, now_us: float, *, refund: bool) -> None:
        """Replace what was reserved by what was used.

        Args:
            hold: The reservation.
            tokens: Used.
            nano: Spent, in nano-USD.
            now_us: Time in microseconds.
            refund: Give the request itself back, too.
        """
        moment = Moment.of(now_us)
        for counter, (r_v, t_v) in zip(hold.counters, hold.receipt, strict=True):
            state = self._state(counter, moment)
            _use(state, hold.day, hold.month, tokens - hold.tokens, nano - hold.nano)
            state.used = max(0, state.used - counter.counted)
            if refund and counter.interval_us:
                back = min(counter.interval_us, max(0.0, r_v - state.r_back - now_us))
                state.r_tat, state.r_back = state.r_tat - back, state.r_back + back
            if counter.token_us:
                more = math.ceil(tokens * counter.token_us) - _token_cost(counter, hold.tokens)
                if more > 0:
                    state.t_tat = max(state.t_tat, now_us) + more
                else:
                    back = min(-more, max(0.0, t_v - state.t_back - now_us))
                    state.t_tat, state.t_back = state.t_tat - back, state.t_back + back

    def _state(self, counter: Counter, moment: Moment) -> State:
        state = self._states.get(counter.key)
        if state is None:
            state = self._states[counter.key] = State(moment.day, moment.month)
            if len(self._states) > self._size:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(counter.key)
        state.t_tat = min(state.t_tat, moment.now + _HOUR_US)
        state.r_tat = min(state.r_tat, moment.now + counter.burst_us)
        if state.day < moment.day:
            state.d_tokens, state.d_nano = 0.0, 0.0
        if state.month < moment.month:
            state.m_tokens, state.m_nano = 0.0, 0.0
        state.day, state.month = moment.day, moment.month  # a clock that went back: what was used counts for today
        return state


def _waits(counter: Counter, state: State, tokens: int, nano: int, moment: Moment) -> list[tuple[Limit, float]]:
    """Return the limits that refuse the request, each with how long it will; in the order of batch.lua."""
    waits: list[tuple[Limit, float]] = []
    if counter.interval_us:
        wait = max(state.r_tat, moment.now) + counter.interval_us - moment.now - counter.burst_us
        waits.append((Limit.REQUESTS, wait))
    if counter.token_us:
        wait = max(state.t_tat, moment.now) + _token_cost(counter, tokens) - moment.now - MINUTE_US
        waits.append((Limit.TOKENS, wait))
    if counter.concurrent and state.used >= counter.concurrent:
        waits.append((Limit.CONCURRENT, _CONCURRENT_WAIT_US))
    if counter.day_tokens and state.d_tokens + tokens > counter.day_tokens:
        waits.append((Limit.DAY_TOKENS, moment.day_end))
    if counter.day_nano and state.d_nano + nano > counter.day_nano:
        waits.append((Limit.DAY_USD, moment.day_end))
    if counter.month_tokens and state.m_tokens + tokens > counter.month_tokens:
        waits.append((Limit.MONTH_TOKENS, moment.month_end))
    if counter.month_nano and state.m_nano + nano > counter.month_nano:
        waits.append((Limit.MONTH_USD, moment.month_end))
    return waits


def _take(counter: Counter, state: State, tokens: int, nano: int, moment: Moment) -> tuple[float, float]:
    if counter.interval_us:
        state.r_tat = max(state.r_tat, moment.now) + counter.interval_us
    if counter.token_us:
        state.t_tat = max(state.t_tat, moment.now) + _token_cost(counter, tokens)
    state.used += counter.counted
    _use(state, moment.day, moment.month, tokens, nano)
    return state.r_tat + state.r_back, state.t_tat + state.t_back


def _use(state: State, day: int, month: int, tokens: float, nano: float) -> None:
    if state.day == day:
        state.d_tokens, state.d_nano = max(0.0, state.d_tokens + tokens), max(0.0, state.d_nano + nano)
    if state.month == month:
        state.m_tokens, state.m_nano = max(0.0, state.m_tokens + tokens), max(0.0, state.m_nano + nano)


def _token_cost(counter: Counter, tokens: int) -> float:
    return min(math.ceil(tokens * counter.token_us), MINUTE_US)


def _tightest(
    counters: Sequence[Counter], states: Sequence[State], wait: float, moment: Moment
) -> tuple[int, int, int, float, float, float, float, float]:
    requests: tuple[float, int, float] | None = None
    tokens: tuple[float, int, Limit, float] | None = None
    for number, (counter, state) in enumerate(zip(counters, states, strict=True), 1):
        if counter.interval_us:
            behind = max(state.r_tat - moment.now, 0.0)
            room = max(0, math.floor((counter.burst_us - behind) / counter.interval_us))
            if requests is None or room < requests[0]:
                requests = (room, number, behind)
        for limit, left, reset in _token_limits(counter, state, moment):
            if tokens is None or left < tokens[0]:
                tokens = (left, number, limit, reset)
    r_left, r_who, r_reset = requests or (0.0, 0, 0.0)
    t_left, t_who, t_what, t_reset = tokens or (0.0, 0, 0, 0.0)
    return r_who, t_who, t_what, wait, r_left, r_reset, t_left, t_reset


def _token_limits(counter: Counter, state: State, moment: Moment) -> list[tuple[Limit, float, float]]:
    found: list[tuple[Limit, float, float]] = []
    if counter.token_us:
        behind = max(state.t_tat - moment.now, 0.0)
        found.append((Limit.TOKENS, max(0, math.floor((MINUTE_US - behind) / counter.token_us)), behind))
    if counter.day_tokens:
        found.append((Limit.DAY_TOKENS, max(0.0, counter.day_tokens - state.d_tokens), moment.day_end))
    if counter.month_tokens:
        found.append((Limit.MONTH_TOKENS, max(0.0, counter.month_tokens - state.m_tokens), moment.month_end))
    return found
