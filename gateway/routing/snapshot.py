"""Snapshot: everything that requests are answered by, as one value that is replaced whole.

Built from the policy documents and from where services answer; pure data and pure functions, safe to share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.policy_config import PolicyDocuments
from gateway.routing.split import pick, seed_of
from gateway.upstream.origin import Origin
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.gateway_policy import GatewayPolicyBody
from serving.contracts.observation import Side
from serving.contracts.route import Route, RouteEndpoint

HOT_PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
"""Paths that are passed to engines."""


@dataclass(frozen=True, slots=True)
class Target:
    """One side of a model. `heads` holds, by path, the start of a request to it."""

    service: str
    side: Side
    weight: float
    seed: bytes
    ready: bool
    origin: Origin
    heads: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes. `displaced` is the user's own side when that one is not ready."""

    target: Target
    displaced: Target | None = None


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """One model's sides. `weighted` has those with a weight above 0, `live` the ready ones of them."""

    model: str
    release_id: str | None
    weighted: tuple[Target, ...]
    live: tuple[Target, ...] = field(init=False)
    only: Choice | None = field(init=False)

    def __post_init__(self) -> None:
        live = tuple(target for target in self.weighted if target.ready)
        object.__setattr__(self, "live", live)
        alone = len(self.weighted) == 1 and len(live) == 1
        object.__setattr__(self, "only", Choice(live[0]) if alone else None)

    def choose(self, user: bytes) -> Choice | None:
        """Return the user's side, or the next best one that is ready; None when none is."""
        if self.only is not None:
            return self.only
        if not self.live:
            return None
        own = pick(user, self.weighted)
        if own.ready:
            return Choice(own)
        return Choice(pick(user, self.live), displaced=own)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all requests that arrive at one moment are answered by."""

    revision: str | None
    policy: GatewayPolicyBody
    routes: Mapping[str, ModelRoute]

    @property
    def absent(self) -> tuple[str, ...]:
        """One sentence for each service with a weight that is not ready."""
        return tuple(
            f"model {route.model}: service {target.service} ({target.side}) is not ready"
            for route in self.routes.values()
            for target in route.weighted
            if not target.ready
        )


def build_snapshot(documents: PolicyDocuments, endpoints: EndpointDirectory | None) -> Snapshot:
    """Join documents and endpoints.

    Args:
        documents: Policy and routes, already checked.
        endpoints: Where services answer; None when the policy's template makes addresses and all count as ready.
    """
    template = documents.policy.spec.service_url_template
    routes = {
        route.spec.model: ModelRoute(
            route.spec.model,
            route.spec.release_id,
            tuple(
                _target(route, endpoint, template, endpoints)
                for endpoint in route.spec.endpoints
                if endpoint.weight_percent > 0
            ),
        )
        for route in documents.routes
    }
    return Snapshot(documents.revision, documents.policy.spec, routes)


def _target(route: Route, endpoint: RouteEndpoint, template: str, endpoints: EndpointDirectory | None) -> Target:
    if endpoints is None:
        url, ready = template.replace("{service}", endpoint.service), True
    else:
        listed = endpoints.root.get(endpoint.service)
        url, ready = (listed.url, listed.ready) if listed else ("http://not-listed.invalid", False)
    origin = Origin.of(url)
    # The release is part of the seed, so that each release meets other users first; it changes only while one side has
    # all the weight, when nobody can move.
    seed = seed_of(route.spec.model, route.spec.release_id or "", endpoint.side)
    heads = {
        path: f"POST {path} HTTP/1.1\r\nhost: {origin}\r\ncontent-type: application/json\r\n".encode()
        for path in HOT_PATHS
    }
    return Target(endpoint.service, endpoint.side, float(endpoint.weight_percent), seed, ready, origin, heads)
