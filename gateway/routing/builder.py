"""Builds snapshots from documents and addresses, taking over from the last one what has not changed.

Runs off the event loop's thread: it reads the last snapshot, which nobody changes, and makes endpoint states, which
nobody sees before the new snapshot is in place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from gateway.resilience.endpoint import EndpointRegistry
from gateway.routing.rules import Router, RuleBook
from gateway.routing.snapshot import Heads, ModelRoute, RouteSide, Snapshot, Target
from gateway.routing.split import seed_of
from gateway.upstream.origin import Origin
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.resilience import Breaker, Overload
from serving.contracts.route import Route, RouteEndpoint

NOT_LISTED: Final = Origin("not-listed.invalid", 80)


class _Common(NamedTuple):
    """What every route depends on besides its own document and addresses."""

    template: str | None
    breaker: Breaker
    overload: Overload


class SnapshotBuilder:
    """Builds one snapshot after another; used from one thread at a time.

    Args:
        provider_socket: Unix socket of the provider adapter; None when there is none, and providers are never ready.
        registry: Where endpoint states live; a fresh one by default.

    Attributes:
        fresh: How many routes the last snapshot has that the one before had not.
    """

    def __init__(self, provider_socket: Path | None = None, registry: EndpointRegistry | None = None) -> None:
        self.registry = registry if registry is not None else EndpointRegistry()
        self.fresh = 0
        self._provider = Origin.unix(provider_socket) if provider_socket is not None else None
        self._last: Snapshot | None = None
        self._book: RuleBook | None = None
        self._documents: PolicyDocuments | None = None
        self._common: _Common | None = None
        self._endpoints: EndpointDirectory | None = None

    def build(self, documents: PolicyDocuments, endpoints: EndpointDirectory | None) -> Snapshot:
        """Join documents and endpoints.

        Args:
            documents: Policy and routes, already checked.
            endpoints: Where services answer; None when the policy's template makes addresses and all count as ready.
        """
        policy = documents.policy.spec
        template = policy.service_url_template if endpoints is None else None
        common = _Common(template, policy.breaker, policy.overload)
        last = self._last.routes if self._last is not None and common == self._common else {}
        moved = endpoints is not self._endpoints
        routes: dict[str, ModelRoute] = {}
        self.fresh = 0
        for route in documents.routes:
            model = route.spec.model
            old = last.get(model)
            if old is None or old.document is not route or (moved and not _stays(old, endpoints)):
                old = self._route(route, common, endpoints)
                self.fresh += 1
            routes[model] = old
        router = Router(self._rules(documents, routes), routes)
        snapshot = Snapshot(documents.revision, policy, routes, router, _absent(routes))
        self._last, self._common, self._endpoints = snapshot, common, endpoints
        self._documents = documents
        return snapshot

    def _rules(self, documents: PolicyDocuments, routes: dict[str, ModelRoute]) -> RuleBook:
        if self._book is None or self._documents is not documents:
            shadows = (route.spec.shadow.match for route in documents.routes if route.spec.shadow is not None)
            headers = frozenset(name.encode() for match in shadows for name in match.headers)
            self._book = RuleBook(documents.policy.spec.routing, routes, headers)
        return self._book

    def _route(self, route: Route, common: _Common, endpoints: EndpointDirectory | None) -> ModelRoute:
        spec = route.spec
        sides = tuple(
            self._side(route, endpoint, common, endpoints) for endpoint in spec.endpoints if endpoint.weight_percent > 0
        )
        return ModelRoute(spec.model, spec.release_id, spec.sticky_by, spec.fallbacks, route, sides)

    def _side(
        self, route: Route, endpoint: RouteEndpoint, common: _Common, endpoints: EndpointDirectory | None
    ) -> RouteSide:
        service, side, external = endpoint.service, endpoint.side, endpoint.provider_model is not None
        listed = endpoints.root.get(service) if endpoints is not None and not external else None
        origins: tuple[Origin, ...]
        if external:
            ready, origins = self._provider is not None, (self._provider or NOT_LISTED,)
        elif common.template is not None:
            ready, origins = True, (Origin.of(common.template.replace("{service}", service)),)
        elif listed is not None:
            ready, origins = listed.ready, tuple(Origin.of(url) for url in (listed.url, *listed.replicas))
        else:
            ready, origins = False, (NOT_LISTED,)
        model = endpoint.provider_model or route.spec.model
        name = json.dumps(model).encode()  # orjson's result would hold the 1 to 4 kB that it was made in
        targets = tuple(
            Target(
                service, side, ready, origin, Heads(origin.authority), model, name, external,
                self.registry.state(service, str(origin), common.breaker, common.overload),
            )
            for origin in origins
        )  # fmt: skip
        # The release is part of the seed, so that each release meets other users first; it changes only while one side
        # has all the weight, when nobody can move.
        seed = seed_of(route.spec.model, route.spec.release_id or "", side)
        return RouteSide(service, side, float(endpoint.weight_percent), seed, ready, targets, listed)


def _stays(route: ModelRoute, endpoints: EndpointDirectory | None) -> bool:
    """Tell whether a route's services answer where they did."""
    listed = endpoints.root if endpoints is not None else {}
    for side in route.weighted:
        now, before = listed.get(side.service), side.listed
        if side.targets[0].external or now is before:
            continue
        if now is None or before is None or now.ready != before.ready:
            return False
        if now.url != before.url or now.replicas != before.replicas:
            return False
    return True


def _absent(routes: dict[str, ModelRoute]) -> tuple[str, ...]:
    found: list[str] = []
    for route in routes.values():
        if len(route.live) < len(route.weighted):
            found.extend(_sentence(route.model, side) for side in route.weighted if not side.ready)
        if route.fallbacks:
            without = (name for name in route.fallbacks if name not in routes)
            found.extend(f"model {route.model}: fallback {name} has no route" for name in without)
    return tuple(found)


def _sentence(model: str, side: RouteSide) -> str:
    if side.targets[0].external:
        return f"model {model}: {side.service} needs the provider adapter; set NEXUS_GATEWAY_PROVIDER_SOCKET"
    return f"model {model}: service {side.service} ({side.side}) is not ready"
