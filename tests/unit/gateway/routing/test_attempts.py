from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.principal import ANONYMOUS, Principal
from gateway.resilience.endpoint import EndpointRegistry, EndpointState, Result
from gateway.routing.attempts import own_side, plan
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.request import RouteRequest
from gateway.routing.rules import Decision
from gateway.routing.snapshot import Snapshot
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.observation import Side
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.route import Route

NOW = 1000.0


def route(model: str, fallbacks: list[str] | None = None, provider: str | None = None, **sides: int) -> Route:
    endpoints: list[dict[str, Any]] = [
        {"service": f"{model}-{side}", "side": side, "weight_percent": weight}
        for side, weight in (sides or {"stable": 100}).items()
    ]
    if provider is not None:
        endpoints[0]["provider_model"] = provider
    spec = {"model": model, "endpoints": endpoints, "fallbacks": fallbacks or []}
    return Route.model_validate({"kind": "Route", "metadata": {"name": "r"}, "spec": spec})


def snapshot(*routes: Route, replicas: int = 1, ready: dict[str, bool] | None = None, **breaker: Any) -> Snapshot:
    body = {"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": {"breaker": breaker}}
    services = {
        endpoint.service: {
            "url": f"http://{endpoint.service}:9000",
            "ready": (ready or {}).get(endpoint.service, True),
            "replicas": [f"http://{endpoint.service}:{9000 + at}" for at in range(1, replicas)],
        }
        for one in routes
        for endpoint in one.spec.endpoints
        if endpoint.provider_model is None
    }
    documents = PolicyDocuments("r", GatewayPolicy.model_validate(body), routes)
    builder = SnapshotBuilder(Path("/run/adapter.sock"), EndpointRegistry(lambda: NOW))
    return builder.build(documents, EndpointDirectory.model_validate(services))


def decision(state: Snapshot, user: str = "u", model: str = "m", principal: Principal = ANONYMOUS) -> Decision:
    return state.router.decide(RouteRequest(model, principal, user.encode(), {}, {}, 10))


def order(state: Snapshot, user: str = "u", **more: Any) -> list[str]:
    return [target.service for target in plan(decision(state, user, **more), lambda: NOW)]


def of(state: Snapshot, service: str) -> list[EndpointState]:
    sides = [side for one in state.routes.values() for side in one.weighted if side.service == service]
    return [target.state for target in sides[0].targets]


def trip(state: EndpointState) -> None:
    while state.breaker.closed:
        state.leave(state.try_enter(1), 1, Result.FAILED)


def test_own_side_then_stable_then_fallbacks_then_the_provider() -> None:
    """The whole chain comes in order, each endpoint once."""
    state = snapshot(
        route("m", ["n", "gpt"], stable=40, candidate=60), route("n"), route("gpt", provider="openai/gpt-4o")
    )
    by_side = {own_side(decision(state, f"u{i}")).side: f"u{i}" for i in range(50)}
    assert order(state, by_side[Side.CANDIDATE]) == ["m-candidate", "m-stable", "n-stable", "gpt-stable"]
    assert order(state, by_side[Side.STABLE]) == ["m-stable", "n-stable", "gpt-stable"]


def test_nobody_meets_a_side_that_is_not_theirs() -> None:
    """With stable gone its users meet neither candidate nor baseline; candidate's users move to stable only."""
    sides = {"stable": 40, "candidate": 30, "baseline": 30}
    gone = snapshot(route("m", **sides), ready={"m-stable": False})
    whole = snapshot(route("m", **sides))
    for i in range(60):
        own = own_side(decision(gone, f"u{i}")).side
        assert order(gone, f"u{i}") == ([] if own is Side.STABLE else [f"m-{own}"])
        assert order(whole, f"u{i}")[1:] == ([] if own is Side.STABLE else ["m-stable"])


def test_providers_are_asked_by_their_own_name_on_the_adapters_socket() -> None:
    """A provider's target has LiteLLM's name and the unix socket; without a socket it is not ready and says so."""
    target = next(plan(decision(snapshot(route("m", provider="anthropic/claude")))))
    assert (target.model, target.model_name, target.external) == ("anthropic/claude", b'"anthropic/claude"', True)
    assert str(target.origin) == "unix:/run/adapter.sock"
    assert b"host: localhost\r\n" in target.heads["/v1/messages"]
    body = GatewayPolicy.model_validate({"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": {}})
    without = SnapshotBuilder().build(PolicyDocuments("r", body, (route("m", provider="openai/x"),)), None)
    assert list(plan(decision(without))) == []
    assert "NEXUS_GATEWAY_PROVIDER_SOCKET" in without.absent[0]


def test_fallbacks_outside_what_the_caller_may_use_are_not_used() -> None:
    """A credential for `m` and `n` never falls back to the provider; fallbacks without a route are named."""
    state = snapshot(route("m", ["n", "gpt", "gone"]), route("n"), route("gpt", provider="openai/gpt-4o"))
    principal = Principal("t", models=frozenset({"m", "n"}))
    assert order(state, principal=principal) == ["m-stable", "n-stable"]
    assert state.absent == ("model m: fallback gone has no route",)


def test_the_replica_with_the_fewest_outstanding_tokens_comes_first_and_a_full_one_last() -> None:
    """Three replicas come by outstanding tokens; one that is full comes after all others."""
    state = snapshot(route("m"), replicas=3)
    a, b, c = of(state, "m-stable")
    a.try_enter(300)
    b.try_enter(100)
    c.try_enter(200)
    assert [target.state for target in plan(decision(state), lambda: NOW)] == [b, c, a]
    b.running = 10_000
    assert [target.state for target in plan(decision(state), lambda: NOW)] == [c, a, b]


@pytest.mark.parametrize("replicas", [3, 20])
def test_equal_replicas_take_turns(replicas: int) -> None:
    """Among equals, requests spread over all replicas evenly."""
    state = snapshot(route("m"), replicas=replicas)
    firsts = Counter(next(plan(decision(state), lambda: NOW)).state.address for _ in range(replicas * 10))
    assert set(firsts.values()) == {10}


def test_many_replicas_are_all_tried() -> None:
    """More replicas than are compared at once still all come, each once."""
    state = snapshot(route("m"), replicas=20)
    targets = [target.state for target in plan(decision(state), lambda: NOW)]
    assert len(targets) == len(set(targets)) == 20


def test_endpoints_are_looked_at_when_they_are_asked_for() -> None:
    """A replica that is drained after the first try is not offered as the second."""
    state = snapshot(route("m", ["n"]), route("n"), replicas=2)
    targets = plan(decision(state), lambda: NOW)
    first = next(targets).state
    for one in of(state, "m-stable"):
        if one is not first:
            one.drain(True)
    assert [target.service for target in targets] == ["n-stable", "n-stable"]


def test_an_open_breaker_is_passed_over_and_at_most_the_cap_is_ejected() -> None:
    """Of four replicas at most half are left out, however many breakers are open; of one, that one may be."""
    state = snapshot(route("m"), replicas=4, max_ejected_fraction=0.5)
    replicas = of(state, "m-stable")
    for ejected, one in enumerate(replicas):
        trip(one)
        assert len(order(state)) == 4 - min(ejected + 1, 2)
    alone = snapshot(route("m", ["n"]), route("n"))
    trip(of(alone, "m-stable")[0])
    assert order(alone) == ["n-stable"]


def test_drained_and_held_endpoints_are_left_out_whatever_the_cap() -> None:
    """Draining or holding both replicas leaves none."""
    state = snapshot(route("m"), replicas=2)
    first, second = of(state, "m-stable")
    first.drain(True)
    second.hold(5)
    assert order(state) == []
