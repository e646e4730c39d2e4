"""What is suspicious in documents that are right by themselves: it would load, and not do what its author meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from serving.contracts.gateway_policy import GatewayPolicyBody
from serving.contracts.policy_folder import POLICY_FILE, ROUTES_FOLDER, PolicyDocuments
from serving.contracts.route import RouteBody
from serving.contracts.routing_rules import rule_problems
from serving.contracts.strict_yaml import YamlPath

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Doubt(NamedTuple):
    """One suspicious thing. `file` is relative to the policy folder."""

    file: str
    path: YamlPath
    message: str


def policy_doubts(documents: PolicyDocuments, *, redis: bool) -> tuple[Doubt, ...]:
    """List everything that is suspicious.

    Args:
        documents: A whole folder that has been read.
        redis: Whether the gateway has one.
    """
    policy = documents.policy.spec
    routes = {route.spec.model: route.spec for route in documents.routes}
    found = [*_rules(policy, routes), *_names(policy, routes), *_needs_redis(policy, redis=redis), *_issuers(policy)]
    for file, route in zip(documents.route_files, documents.routes, strict=True):
        found.extend(_route(f"{ROUTES_FOLDER}/{file}", route.spec, routes))
    return tuple(found)


def _rules(policy: GatewayPolicyBody, routes: dict[str, RouteBody]) -> Iterator[Doubt]:
    by_name = {rule.name: index for index, rule in enumerate(policy.routing)}
    for problem in rule_problems(policy.routing, routes):
        found = re.match(r"rule (\S+) ", problem)
        index = by_name[found[1]] if found is not None else 0
        yield Doubt(POLICY_FILE, ("spec", "routing", index, "to"), problem)
    for index, rule in enumerate(policy.routing[:-1]):
        if rule.match.is_empty:
            text = f"rule {rule.name} matches every request: no rule behind it is ever tried"
            yield Doubt(POLICY_FILE, ("spec", "routing", index, "match"), text)
            return


def _names(policy: GatewayPolicyBody, routes: dict[str, RouteBody]) -> Iterator[Doubt]:
    """Find names of models that nothing answers to: neither a route nor an alias."""
    known = set(routes) | {model for rule in policy.routing for model in rule.match.models}
    listed: list[tuple[YamlPath, tuple[str, ...]]] = [
        (("spec", "tenants", index, "models"), tenant.models) for index, tenant in enumerate(policy.tenants)
    ]
    listed += [
        (("spec", "limits", "rules", index, "models"), each.models) for index, each in enumerate(policy.limits.rules)
    ]
    for path, models in listed:
        if absent := sorted(set(models) - known):
            yield Doubt(POLICY_FILE, path, f"no route and no rule for {', '.join(absent)}")
    for index, limit in enumerate(policy.limits.rules):
        counts_usd = limit.usd_per_day is not None or limit.usd_per_month is not None
        free = sorted(model for model in limit.models or routes if model in routes and routes[model].price is None)
        if counts_usd and free:
            text = f"limit {limit.name} is in USD; routes without a price count as free: {', '.join(free)}"
            yield Doubt(POLICY_FILE, ("spec", "limits", "rules", index), text)


def _needs_redis(policy: GatewayPolicyBody, *, redis: bool) -> Iterator[Doubt]:
    if redis:
        return
    if policy.limits.rules:
        count = len(policy.limits.rules)
        text = f"{count} limits need Redis: a gateway without NEXUS_GATEWAY_REDIS_URL refuses this policy"
        yield Doubt(POLICY_FILE, ("spec", "limits"), text)
    if policy.authentication.required and not policy.authentication.jwt:
        text = "API keys need Redis: a gateway without NEXUS_GATEWAY_REDIS_URL can let nobody in"
        yield Doubt(POLICY_FILE, ("spec", "authentication", "required"), text)


def _issuers(policy: GatewayPolicyBody) -> Iterator[Doubt]:
    for index, issuer in enumerate(policy.authentication.jwt):
        address = urlsplit(issuer.jwks_url)
        path: YamlPath = ("spec", "authentication", "jwt", index)
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            text = "keys come in clear text: whoever is on the way can make tokens; use https"
            yield Doubt(POLICY_FILE, (*path, "jwks_url"), text)
    if policy.authentication.jwt and not policy.tenants:
        text = "no tenants are listed, so every token is refused"
        yield Doubt(POLICY_FILE, ("spec", "authentication", "jwt"), text)


def _route(file: str, route: RouteBody, routes: dict[str, RouteBody]) -> Iterator[Doubt]:
    for index, model in enumerate(route.fallbacks):
        if model not in routes:
            yield Doubt(file, ("spec", "fallbacks", index), f"no route for the fallback {model}: it is passed over")
    if route.shadow is not None and route.shadow.model not in routes:
        text = f"no route for the shadow {route.shadow.model}: nothing is copied"
        yield Doubt(file, ("spec", "shadow", "model"), text)
