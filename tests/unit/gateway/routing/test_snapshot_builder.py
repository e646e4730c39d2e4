from __future__ import annotations

import gc

from gateway.resilience.endpoint import EndpointRegistry
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.snapshot import Snapshot
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.route import Route

ROUTES = tuple(
    Route.model_validate(
        {
            "kind": "Route",
            "metadata": {"name": f"m{i}"},
            "spec": {"model": f"m{i}", "endpoints": [{"service": f"s{i}", "side": "stable", "weight_percent": 100}]},
        }
    )
    for i in range(50)
)


def policy(**spec: object) -> GatewayPolicy:
    return GatewayPolicy.model_validate({"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": spec})


POLICY = policy()


def directory(**changed: dict[str, object]) -> EndpointDirectory:
    services = {f"s{i}": {"url": f"http://127.0.0.1:{9000 + i}", "ready": True} for i in range(50)}
    return EndpointDirectory.model_validate(services | changed)


def fresh(before: Snapshot, after: Snapshot) -> set[str]:
    return {model for model, route in after.routes.items() if route is not before.routes.get(model)}


def test_a_reload_takes_over_what_has_not_changed() -> None:
    """Only a route that changed, or whose service moved or left, is built anew; without a change none is."""
    builder = SnapshotBuilder()
    first = builder.build(PolicyDocuments("1", POLICY, ROUTES), directory())
    changed = (ROUTES[0].model_copy(), *ROUTES[1:])
    second = builder.build(PolicyDocuments("2", POLICY, changed), directory())
    assert (fresh(first, second), builder.fresh) == ({"m0"}, 1)
    moved = directory(
        s3={"url": "http://127.0.0.1:1", "ready": True}, s4={"url": "http://127.0.0.1:9004", "ready": False}
    )
    third = builder.build(PolicyDocuments("3", POLICY, changed), moved)
    assert fresh(second, third) == {"m3", "m4"}
    fourth = builder.build(PolicyDocuments("3", POLICY, changed), moved)
    assert fresh(third, fourth) == set()
    replica = directory(s5={"url": "http://127.0.0.1:9005", "ready": True, "replicas": ["http://127.0.0.1:2"]})
    assert "m5" in fresh(fourth, builder.build(PolicyDocuments("4", POLICY, changed), replica))


def test_another_policy_for_endpoints_reaches_all_of_them() -> None:
    """New breaker and overload policies build every route anew on the same states, which then have the new policies."""
    builder = SnapshotBuilder()
    first = builder.build(PolicyDocuments("1", POLICY, ROUTES), directory())
    other = policy(breaker={"min_requests": 3}, overload={"max_queued": 7})
    second = builder.build(PolicyDocuments("2", other, ROUTES), directory())
    assert len(fresh(first, second)) == 50
    before, after = (one.routes["m9"].only for one in (first, second))
    assert before is not None
    assert after is not None
    assert before.state is after.state
    assert (after.state.breaker.policy.min_requests, after.state.limiter.policy.max_queued) == (3, 7)


def test_states_outlive_reloads_and_vanish_with_the_last_snapshot_that_names_them() -> None:
    """What is under way is counted on through a reload; a service that is gone leaves no state behind."""
    registry = EndpointRegistry()
    builder = SnapshotBuilder(registry=registry)
    snapshot = builder.build(PolicyDocuments("1", POLICY, ROUTES), directory())
    only = snapshot.routes["m0"].only
    assert only is not None
    only.state.try_enter(5)
    snapshot = builder.build(PolicyDocuments("2", POLICY, (ROUTES[0].model_copy(), *ROUTES[1:])), directory())
    only = snapshot.routes["m0"].only
    assert only is not None
    assert only.state.running == 1
    snapshot = builder.build(PolicyDocuments("3", POLICY, ROUTES[1:]), directory())
    del only
    gc.collect()
    assert registry.of_service("s0") == ()
    assert len(registry.of_service("s1")) == 1
    assert len(snapshot.routes) == 49
