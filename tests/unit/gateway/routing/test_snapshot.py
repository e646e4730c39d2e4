from __future__ import annotations

from typing import Any

from gateway.auth.principal import ANONYMOUS
from gateway.routing.attempts import plan
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.request import RouteRequest
from gateway.routing.snapshot import Snapshot
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.observation import Side
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.route import Route

USERS = [f"user-{number}".encode() for number in range(300)]


def snapshot(weights: dict[str, int], ready: dict[str, bool] | None, release: str | None = "r1") -> Snapshot:
    endpoints = [{"service": f"m-{side}", "side": side, "weight_percent": w} for side, w in weights.items()]
    spec: dict[str, Any] = {"model": "m", "release_id": release, "endpoints": endpoints}
    route = Route.model_validate({"kind": "Route", "metadata": {"name": "m"}, "spec": spec})
    policy = GatewayPolicy.model_validate({"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": {}})
    directory = None
    if ready is not None:
        services = {
            f"m-{side}": {"url": f"http://127.0.0.1:{9000 + at}", "ready": is_ready}
            for at, (side, is_ready) in enumerate(ready.items())
        }
        directory = EndpointDirectory.model_validate(services)
    return SnapshotBuilder().build(PolicyDocuments("rev", policy, (route,)), directory)


def first(state: Snapshot, user: bytes) -> Side | None:
    """The side that is asked first."""
    decision = state.router.decide(RouteRequest("m", ANONYMOUS, user, {}, {}, 1))
    target = next(plan(decision), None)
    return target.side if target is not None else None


def chosen(state: Snapshot) -> set[Side | None]:
    return {first(state, user) for user in USERS}


def test_a_side_of_weight_zero_never_gets_traffic() -> None:
    """A ready side of weight 0 is chosen for no user."""
    ready = {"stable": True, "candidate": True}
    assert chosen(snapshot({"stable": 100, "candidate": 0}, ready)) == {Side.STABLE}


def test_a_side_of_weight_zero_gets_none_even_when_nothing_else_is_ready() -> None:
    """When only a side of weight 0 is ready, nobody gets a target."""
    assert chosen(snapshot({"stable": 100, "candidate": 0}, {"stable": False, "candidate": True})) == {None}


def test_a_side_that_is_not_ready_is_left_out_and_named() -> None:
    """Only users of the absent side are moved, to the stable one, and the snapshot names the service."""
    ready = {"stable": True, "baseline": True, "candidate": False}
    state = snapshot({"stable": 50, "baseline": 25, "candidate": 25}, ready)
    whole = snapshot({"stable": 50, "baseline": 25, "candidate": 25}, dict.fromkeys(ready, True))
    before, after = ([first(one, user) for user in USERS] for one in (whole, state))
    assert Side.CANDIDATE in before
    assert after == [Side.STABLE if own is Side.CANDIDATE else own for own in before]
    assert state.absent == ("model m: service m-candidate (candidate) is not ready",)


def test_a_service_that_is_not_listed_is_not_ready() -> None:
    """A service that the endpoints file does not list gets no traffic."""
    assert chosen(snapshot({"stable": 100}, {})) == {None}


def test_without_an_endpoints_file_the_template_makes_addresses() -> None:
    """Without an endpoints file, the policy's default template makes the cluster address and port 80."""
    target = snapshot({"stable": 100}, None).routes["m"].live[0].targets[0]
    assert str(target.origin) == "m-stable-predictor.models.svc.cluster.local:80"


def test_each_release_meets_other_users() -> None:
    """Two releases at the same weights choose different users, and neither choice contains the other."""
    weights, ready = {"stable": 80, "candidate": 20}, {"stable": True, "candidate": True}
    both = (snapshot(weights, ready, release) for release in ("r1", "r2"))
    sides = [{user for user in USERS if first(state, user) is Side.CANDIDATE} for state in both]
    assert sides[0] != sides[1]
    assert len(sides[0] & sides[1]) < min(map(len, sides))
