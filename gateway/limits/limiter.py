"""Limiter: what the hot path calls. Reserve before a request, settle after it; Redis' absence is handled here.

Failure policy (`limits.redis_failure`): while Redis does not answer, requests with limits are let through, refused, or
decided by this process' share of every limit. Which of these, and how often, is counted; the outage and its end are
logged once. What requests use meanwhile is booked in Redis when it is back.
"""

from __future__ import annotations

import asyncio

from gateway.auth.principal import Principal
from gateway.errors import LimiterUnavailableError, LimitExceededError
from gateway.limits.counter import LIMIT_FIELDS, Limit
from gateway.limits.memory import MemoryCounters
from gateway.limits.plan import LimitPlan, PlanBook, PricedModel
from gateway.limits.reservation import Reservation
from gateway.limits.shared import SharedCounters
from gateway.limits.stock import Stock
from gateway.limits.verdict import Answer, Status, denial
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.limits import Limits, RedisFailure


class Limiter:
    """Limits of all requests of this process.

    Args:
        shared: The counters in Redis; None without Redis: then nothing is limited or booked.
        metrics: Counters of denials, and of decisions without Redis.
    """

    def __init__(self, shared: SharedCounters | None, metrics: GatewayMetrics) -> None:
        self._shared = shared
        self._stock = Stock(shared) if shared is not None else None
        self._metrics = metrics
        self._plans = PlanBook()
        self._local = MemoryCounters()
        self._limits = Limits()

    def use(self, limits: Limits) -> None:
        """Apply this policy from now on; nothing happens when it is the one in force."""
        if limits is not self._limits:
            self._limits = limits
            self._plans.use(limits)
            if self._stock is not None:
                self._stock.empty()  # it was made for the old limits

    def plan(self, principal: Principal, user: bytes | None, route: PricedModel) -> LimitPlan:
        """Return the limits of a caller and a model; see `PlanBook.plan`."""
        return self._plans.plan(principal, user, route)

    async def reserve(self, plan: LimitPlan, body_bytes: int, max_tokens: int | None) -> Reservation:
        """Take what the request is expected to use from all of its limits, or from none.

        Args:
            plan: The caller's.
            body_bytes: Size of the request's body.
            max_tokens: Most output tokens that the request asks for; None when it does not say.

        Returns:
            What has to be settled exactly once; at once when nothing limits the request.

        Raises:
            LimitExceededError: A rate or concurrency limit is used up.
            BudgetExceededError: A budget is used up.
            LimiterUnavailableError: Redis does not answer, and the policy says deny.
        """
        estimate = plan.estimate
        reservation = Reservation(
            plan, body_bytes, estimate.prompt_tokens(body_bytes), estimate.output_tokens(max_tokens)
        )
        shared, stock = self._shared, self._stock
        if shared is None or stock is None or not plan.counters:
            return reservation
        reservation.nano = plan.nano(reservation.prompt_tokens, reservation.output_tokens)
        answer: Answer | None = None
        if shared.up:
            ahead = stock.take(reservation)
            if ahead is not None:
                return ahead
            try:
                answer = await shared.reserve(reservation)
            except asyncio.CancelledError:
                self.settle(reservation, None, None, failed=True)
                raise
        if answer is None:
            answer = self._decide_alone(reservation, shared.now_us())
        elif answer[0] == Status.GRANTED:
            stock.granted(reservation)
        if answer is not None and answer[0] == Status.DENIED:
            raise self._denied(reservation, answer)
        reservation.answer = answer
        return reservation

    def _decide_alone(self, reservation: Reservation, now_us: float) -> Answer | None:
        """Decide without Redis; None lets the request through unasked."""
        policy = self._limits.redis_failure
        self._metrics.limited_without_redis(policy)
        if policy is RedisFailure.ALLOW:
            return None
        if policy is RedisFailure.DENY:
            self.settle(reservation, None, None, failed=True)
            raise LimiterUnavailableError(
                "expected the limits' store to answer; it does not: try again later", retry_after_seconds=1
            )
        share = self._limits.local_share_fraction
        counters = tuple(counter.share(share) for counter in reservation.plan.counters)
        answer, reservation.hold = self._local.reserve(counters, reservation.tokens, reservation.nano, now_us)
        if reservation.hold is None:
            self.settle(reservation, None, None, failed=True)
        return answer

    def _denied(self, reservation: Reservation, answer: Answer) -> LimitExceededError:
        counters = reservation.plan.counters
        self._metrics.limit_denied(counters[answer[1] - 1].rule.name, LIMIT_FIELDS[Limit(answer[2])])
        return denial(answer, counters, reservation.tokens)

    def settle(
        self, reservation: Reservation, prompt_tokens: int | None, output_tokens: int | None, *, failed: bool
    ) -> None:
        """Replace what was reserved by what was used; a second call does nothing. Never raises.

        Args:
            reservation: The request's.
            prompt_tokens: Used; None when not known: then the estimate counts, or nothing if the request failed.
            output_tokens: As `prompt_tokens`.
            failed: The request got no answer: it does not count as a request, either.
        """
        if reservation.settled:
            return
        reservation.settled = True
        plan = reservation.plan
        if (
            prompt_tokens and output_tokens is not None and not failed
        ):  # a prompt of 0 tokens is a refusal by the engine
            plan.estimate.learn(reservation.body_bytes, prompt_tokens, output_tokens)
        prompt = reservation.prompt_tokens if prompt_tokens is None and not failed else prompt_tokens or 0
        output = reservation.output_tokens if output_tokens is None and not failed else output_tokens or 0
        nano = plan.nano(prompt, output)
        shared = self._shared
        if shared is None:
            return
        if reservation.hold is not None:
            self._local.settle(reservation.hold, prompt + output, nano, shared.now_us(), refund=failed)
        shared.settle(reservation, (0 if failed else 1, prompt, output, nano), refund=failed)

    async def open(self) -> None:
        """Try to reach Redis once, so that the first requests find it.

        Raises:
            RedisClusterError: It is a Redis that cannot be used.
        """
        if self._shared is not None:
            await self._shared.connect(starting=True)

    async def run(self) -> None:
        """Keep Redis reached until cancelled."""
        if self._shared is None:
            await asyncio.Event().wait()
        else:
            await self._shared.run()

    async def close(self) -> None:
        """Send settlements that are left; call it after `run` was cancelled and requests have ended."""
        if self._shared is not None and self._stock is not None:
            self._stock.empty()
            await self._shared.close()
