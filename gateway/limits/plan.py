"""LimitPlan: all that limits need to know of one caller and one model, worked out once and shared by its requests."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, Protocol

from gateway.auth.principal import Principal
from gateway.limits.counter import NANO, Counter
from gateway.limits.estimates import Estimate, EstimateBook
from gateway.redis_connection import KEY_PREFIX
from serving.contracts.limits import LimitRule, Limits, LimitScope
from serving.contracts.route import Price

MAX_COUNTERS: Final = 64
"""Rules that one request can fall under: places of a batch's counters are 16 bits."""

_MILLION: Final = 1_000_000
_UNNAMED_USER: Final = b"\0"
_KEY: Final = struct.Struct("<H")


class PricedModel(Protocol):
    """What a route tells: the model and what its tokens cost."""

    @property
    def model(self) -> str:
        """Return the name that clients use."""
        ...

    @property
    def price(self) -> Price | None:
        """Return what tokens cost; None is free."""
        ...


class LimitPlan:
    """Counters, price and estimate of one caller and model.

    Attributes:
        counters: What its requests count by; empty when nothing limits them.
        count: Their number as one byte.
        counted: One byte a counter: whether requests under way are counted.
        record: What another process needs to give a reservation back; empty when nothing has to be.
        label: Who spends: tenant, key and model, separated by NUL.
    """

    __slots__ = ("count", "counted", "counters", "estimate", "input_nano", "label", "output_nano", "price", "record")

    def __init__(self, counters: tuple[Counter, ...], label: bytes, price: Price | None, estimate: Estimate) -> None:
        self.counters = counters
        self.count = len(counters)
        self.counted = bytes(counter.counted for counter in counters)
        booked = any(counter.booked for counter in counters)
        self.record = b"".join(
            _KEY.pack(len(counter.key)) + counter.key + bytes((counter.counted,)) for counter in counters if booked
        )
        self.label = label
        self.price = price
        self.input_nano = price.input_usd_per_million_tokens * NANO / _MILLION if price else 0.0
        self.output_nano = price.output_usd_per_million_tokens * NANO / _MILLION if price else 0.0
        self.estimate = estimate

    def nano(self, prompt_tokens: int, output_tokens: int) -> int:
        """Return what tokens cost, in nano-USD."""
        return round(prompt_tokens * self.input_nano + output_tokens * self.output_nano)


class PlanBook:
    """Plans by caller and model; the least recently used are forgotten.

    Args:
        size: Plans, and estimates, held at most.
    """

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._rules: tuple[LimitRule, ...] = ()
        self._by_user = False
        self._plans: OrderedDict[tuple[str, str | None, str, bytes | None], LimitPlan] = OrderedDict()
        self._estimates = EstimateBook(size)

    def use(self, limits: Limits) -> None:
        """Plan by these rules from now on; what was learned stays."""
        self._rules = limits.rules
        self._by_user = any(rule.scope is LimitScope.USER for rule in limits.rules)
        self._plans.clear()

    def plan(self, principal: Principal, user: bytes | None, route: PricedModel) -> LimitPlan:
        """Return the plan of one caller and model.

        Args:
            principal: Who asks.
            user: Whom the request is for; None, and an address (which starts with NUL), is nobody.
            route: The model's.
        """
        key = (principal.tenant, principal.key_id, route.model, user if self._by_user else None)
        plan = self._plans.get(key)
        if plan is not None and plan.price is route.price:
            self._plans.move_to_end(key)
            return plan
        plan = self._plans[key] = self._build(principal, user, route)
        if len(self._plans) > self._size:
            self._plans.popitem(last=False)
        return plan

    def _build(self, principal: Principal, user: bytes | None, route: PricedModel) -> LimitPlan:
        counters = tuple(self._counters_of(principal, user, route.model))
        if len(counters) > MAX_COUNTERS:
            raise ValueError(f"expected at most {MAX_COUNTERS} limit rules for one request; got {len(counters)}")
        label = f"{principal.tenant}\0{principal.key_id or ''}\0{route.model}".encode()
        estimate = self._estimates.of(principal.key_id or principal.tenant, route.model)
        return LimitPlan(counters, label, route.price, estimate)

    def _counters_of(self, principal: Principal, user: bytes | None, model: str) -> Iterator[Counter]:
        for rule in self._rules:
            if rule.tenants and principal.tenant not in rule.tenants:
                continue
            if rule.models and model not in rule.models:
                continue
            value = _value(rule.scope, principal, user, model)
            if value is not None:
                yield Counter(f"{KEY_PREFIX}limit:{rule.name}:{rule.scope}:{value}".encode(), rule)


def _value(scope: LimitScope, principal: Principal, user: bytes | None, model: str) -> str | None:
    if scope is LimitScope.KEY:
        return principal.key_id
    if scope is LimitScope.TENANT:
        return principal.tenant
    if scope is LimitScope.MODEL:
        return model
    if user is None or user.startswith(_UNNAMED_USER):
        return None
    # Names of users are private, may be long, and are each tenant's own.
    return blake2b(principal.tenant.encode() + b"\0" + user, digest_size=16).hexdigest()
