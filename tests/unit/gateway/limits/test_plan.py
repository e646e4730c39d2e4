"""Plans: which rules a request falls under, by which keys, and how long plans are kept."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.principal import Principal
from gateway.limits.plan import PlanBook
from serving.contracts.limits import LimitRule, Limits, LimitScope
from serving.contracts.route import Price
from tests.fakes.limits import PricedRoute

ROUTE = PricedRoute("m")
ASKER = Principal("bank", key_id="key1")


def book(*rules: LimitRule, size: int = 100) -> PlanBook:
    plans = PlanBook(size)
    plans.use(Limits(rules=rules))
    return plans


def rule(scope: LimitScope, **narrowing: Any) -> LimitRule:
    return LimitRule(name="r", scope=scope, concurrent_requests=1, **narrowing)


@pytest.mark.parametrize(
    ("limits", "principal", "user", "key"),
    [
        (rule(LimitScope.KEY), ASKER, None, b"{nexus}:limit:r:key:key1"),
        (rule(LimitScope.KEY), Principal("bank"), None, None),
        (rule(LimitScope.TENANT), ASKER, None, b"{nexus}:limit:r:tenant:bank"),
        (rule(LimitScope.MODEL), ASKER, None, b"{nexus}:limit:r:model:m"),
        (rule(LimitScope.USER), ASKER, None, None),
        (rule(LimitScope.USER), ASKER, b"\0address:127.0.0.1", None),
        (rule(LimitScope.TENANT, tenants=("bank",)), ASKER, None, b"{nexus}:limit:r:tenant:bank"),
        (rule(LimitScope.TENANT, tenants=("broker",)), ASKER, None, None),
        (rule(LimitScope.TENANT, models=("m",)), ASKER, None, b"{nexus}:limit:r:tenant:bank"),
        (rule(LimitScope.TENANT, models=("n",)), ASKER, None, None),
    ],
)
def test_a_rule_counts_by_its_scope_where_it_applies(
    limits: LimitRule, principal: Principal, user: bytes | None, key: bytes | None
) -> None:
    """Scope, tenants and models decide whether there is a counter, and which."""
    counters = book(limits).plan(principal, user, ROUTE).counters
    assert [counter.key for counter in counters] == ([] if key is None else [key])


def test_users_are_hashed_and_their_tenants_own() -> None:
    """No name of a user reaches Redis, and two tenants' users of one name are two."""
    plans = book(rule(LimitScope.USER))
    keys = {plans.plan(Principal(tenant), b"ann@example.org", ROUTE).counters[0].key for tenant in ("a", "b")}
    assert len(keys) == 2
    assert not any(b"ann" in key for key in keys)


def test_plans_are_kept_until_policy_or_price_change() -> None:
    """The same caller and model get the same plan; users matter only where a rule counts by them."""
    plans = book(rule(LimitScope.TENANT))
    plan = plans.plan(ASKER, b"ann", ROUTE)
    assert plans.plan(ASKER, b"bob", ROUTE) is plan
    assert plans.plan(Principal("bank", key_id="key1"), None, PricedRoute("m")) is plan
    priced = PricedRoute("m", Price(input_usd_per_million_tokens=0.15, output_usd_per_million_tokens=0.6))
    renewed = plans.plan(ASKER, None, priced)
    assert renewed is not plan
    assert renewed.nano(1_000, 100) == 150_000 + 60_000
    plans.use(Limits())
    assert plans.plan(ASKER, None, priced).counters == ()
    assert plans.plan(ASKER, None, priced).estimate is plan.estimate


def test_plans_are_bounded() -> None:
    """A flood of users costs a bounded number of plans."""
    plans = book(rule(LimitScope.USER), size=3)
    for number in range(10):
        plans.plan(ASKER, b"user%d" % number, ROUTE)
    assert len(plans._plans) == 3


def test_more_rules_than_a_batch_has_room_for_are_refused() -> None:
    """The error says how many a request may fall under."""
    rules = tuple(LimitRule(name=f"r{n}", scope=LimitScope.TENANT, concurrent_requests=1) for n in range(65))
    with pytest.raises(ValueError, match="at most 64 limit rules for one request; got 65"):
        book(*rules).plan(ASKER, None, ROUTE)
