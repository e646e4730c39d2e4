from __future__ import annotations

from typing import Any

from gateway.policy_config import PolicyDocuments
from gateway.routing.snapshot import Snapshot, build_snapshot
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.observation import Side
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
    return build_snapshot(PolicyDocuments("rev", policy, (route,)), directory)


def chosen(state: Snapshot) -> set[Side | None]:
    choices = [state.routes["m"].choose(user) for user in USERS]
    return {choice.target.side if choice else None for choice in choices}


def test_a_side_of_weight_zero_never_gets_traffic() -> None:
    """A ready side of weight 0 is chosen for no user."""
    ready = {"stable": True, "candidate": True}
    assert chosen(snapshot({"stable": 100, "candidate": 0}, ready)) == {Side.STABLE}


def test_a_side_of_weight_zero_gets_none_even_when_nothing_else_is_ready() -> None:
    """When only a side of weight 0 is ready, nobody gets a target."""
    assert chosen(snapshot({"stable": 100, "candidate": 0}, {"stable": False, "candidate": True})) == {None}


def test_a_side_that_is_not_ready_is_left_out_and_named() -> None:
    """Only users of the absent side are moved, with that side on record, and the snapshot names the service."""
    ready = {"stable": True, "baseline": True, "candidate": False}
    state = snapshot({"stable": 50, "baseline": 25, "candidate": 25}, ready)
    whole = snapshot({"stable": 50, "baseline": 25, "candidate": 25}, dict.fromkeys(ready, True))
    displaced = 0
    for user in USERS:
        choice, own = state.routes["m"].choose(user), whole.routes["m"].choose(user)
        assert choice is not None
        assert own is not None
        if own.target.side is Side.CANDIDATE:
            displaced += 1
            assert choice.displaced is not None
            assert choice.displaced.side is Side.CANDIDATE
            assert choice.target.side is not Side.CANDIDATE
        else:
            assert (choice.target.side, choice.displaced) == (own.target.side, None)
    assert displaced > 0
    assert state.absent == ("model m: service m-candidate (candidate) is not ready",)


def test_a_service_that_is_not_listed_is_not_ready() -> None:
    """A service that the endpoints file does not list gets no traffic."""
    assert chosen(snapshot({"stable": 100}, {})) == {None}


def test_without_an_endpoints_file_the_template_makes_addresses() -> None:
    """Without an endpoints file, the policy's default template makes the cluster address and port 80."""
    target = snapshot({"stable": 100}, None).routes["m"].live[0]
    assert str(target.origin) == "m-stable-predictor.models.svc.cluster.local:80"


def test_each_release_meets_other_users() -> None:
    """Two releases at the same weights choose different users, and neither choice contains the other."""
    weights, ready = {"stable": 80, "candidate": 20}, {"stable": True, "candidate": True}
    first, second = (snapshot(weights, ready, release).routes["m"] for release in ("r1", "r2"))
    sides = [
        {user for user in USERS if (choice := route.choose(user)) and choice.target.side is Side.CANDIDATE}
        for route in (first, second)
    ]
    assert sides[0] != sides[1]
    assert len(sides[0] & sides[1]) < min(map(len, sides))
