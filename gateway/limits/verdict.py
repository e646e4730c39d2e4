"""Verdict: what the counters said to one request, as an error or as response headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from gateway.errors import BudgetExceededError, LimitExceededError
from gateway.limits.counter import LIMIT_FIELDS, Counter, Limit

Answer = tuple[int, int, int, int, int, int, float, float, float, float, float]
"""Status; number (from 1) and limit of the counter that refuses; number of the tightest counter of requests; number and
limit of the tightest of tokens; wait in microseconds; requests left, microseconds until all are there again; the same
of tokens. Number 0 means that there is none."""

_SECOND_US: Final = 1_000_000
_REQUESTS: Final = (
    b"x-ratelimit-limit-requests: %b\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %b\r\n"
)
_TOKENS: Final = _REQUESTS.replace(b"requests", b"tokens")
_BUDGETS: Final = frozenset({Limit.DAY_TOKENS, Limit.MONTH_TOKENS, Limit.DAY_USD, Limit.MONTH_USD})


class Status(IntEnum):
    """What became of a reservation; the numbers are those of batch.lua."""

    GRANTED = 0
    DENIED = 1


def headers_of(answer: Answer, counters: Sequence[Counter]) -> bytes:
    """Return the `x-ratelimit-*` header lines of the tightest counters, as OpenAI writes them.

    A limit is the policy's number, what remains can be used at once, and a reset is when all of it is there again.
    """
    lines = b""
    if answer[3]:
        limit = counters[answer[3] - 1].limit_text(Limit.REQUESTS)
        lines = _REQUESTS % (limit, answer[7], duration(answer[8]))
    if answer[4]:
        limit = counters[answer[4] - 1].limit_text(Limit(answer[5]))
        lines += _TOKENS % (limit, answer[9], duration(answer[10]))
    return lines


def duration(microseconds: float) -> bytes:
    """Write a duration as OpenAI does: 17ms, 8.64s, 6m0s, 23h59m59s; never shorter than it is."""
    ms = math.ceil(microseconds / 1000)
    if ms < 1000:
        return b"%dms" % ms
    if ms < 60_000:
        return b"%gs" % (ms / 1000)
    seconds = -(-ms // 1000)
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return b"%dm%ds" % (minutes, seconds)
    return b"%dh%dm%ds" % (*divmod(minutes, 60), seconds)


def denial(answer: Answer, counters: Sequence[Counter], needed_tokens: int) -> LimitExceededError:
    """Build the error of a refused request: which rule and limit, and when a repeat can succeed.

    Args:
        answer: With status DENIED.
        counters: Those of the request.
        needed_tokens: What it was expected to use.
    """
    counter, limit = counters[answer[1] - 1], Limit(answer[2])
    seconds = max(1, math.ceil(answer[6] / _SECOND_US))
    text = (
        f"expected to stay within {LIMIT_FIELDS[limit]} {counter.rule_limit(limit)} of the rule {counter.rule.name!r} "
        f"(for each {counter.rule.scope})"
    )
    if limit in (Limit.REQUESTS, Limit.CONCURRENT):
        text += "; it is used up"
    else:
        text += f"; this request may need {needed_tokens} tokens, more than is left"
    kind = BudgetExceededError if limit in _BUDGETS else LimitExceededError
    error = kind(f"{text}: try again in {seconds} s", retry_after_seconds=seconds)
    error.headers = headers_of(answer, counters)
    return error
