"""Snapshot: everything that requests are answered by, as one value that is replaced whole.

Pure data; `gateway.routing.builder` makes it from the policy documents and from where services answer. Only the states
of endpoints, to which targets refer, live longer than a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.resilience.endpoint import EndpointState
from gateway.routing.split import pick
from gateway.upstream.origin import Origin
from serving.contracts.endpoints import ServiceEndpoint
from serving.contracts.gateway_policy import GatewayPolicyBody
from serving.contracts.observation import Side
from serving.contracts.route import Price, Route
from serving.contracts.routing_rules import StickyBy

if TYPE_CHECKING:
    from gateway.routing.rules import Router

HOT_PATHS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
)
"""Paths that are passed to engines."""


_KNOWN: Final = 1024
"""Draws that a route remembers."""


class Heads(dict[str, bytes]):
    """The start of a request to one origin, by path; made when it is first needed."""

    __slots__ = ("_authority",)

    def __init__(self, authority: str) -> None:
        super().__init__()
        self._authority = authority

    def __missing__(self, path: str) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: {self._authority}\r\ncontent-type: application/json\r\n".encode()
        self[path] = head
        return head


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One endpoint: an address of a side's service, for one model.

    Attributes:
        service: The service's name.
        side: The side that it is of.
        ready: Whether the service is listed as ready.
        origin: Where it answers.
        heads: The start of a request to it, by path.
        model: The name by which the upstream knows the model.
        model_name: The same as JSON, for `replace_model`.
        external: Whether it is a provider's model, through the adapter.
        state: What is known of the endpoint besides; outlives the snapshot.
    """

    service: str
    side: Side
    ready: bool
    origin: Origin
    heads: Heads
    model: str
    model_name: bytes
    external: bool
    state: EndpointState


@dataclass(frozen=True, slots=True, eq=False)
class RouteSide:
    """One side of a model: a service and its replicas. `listed` is what they were built from."""

    service: str
    side: Side
    weight: float
    seed: bytes
    ready: bool
    targets: tuple[Target, ...]
    listed: ServiceEndpoint | None


@dataclass(frozen=True, slots=True, eq=False)
class ModelRoute:
    """One model's sides. `weighted` has those with a weight above 0, `live` the ready ones of them."""

    model: str
    release_id: str | None
    sticky_by: StickyBy
    fallbacks: tuple[str, ...]
    document: Route
    weighted: tuple[RouteSide, ...]
    live: tuple[RouteSide, ...] = field(init=False)
    stable: RouteSide | None = field(init=False)
    _known: dict[bytes, RouteSide] = field(init=False, default_factory=dict)
    """Sides of some of those who asked of late: drawing costs ten times a look."""
    only: Target | None = field(init=False)
    """The single endpoint, ready or not, of a model that has but one."""

    def __post_init__(self) -> None:
        weighted = self.weighted
        object.__setattr__(self, "live", tuple(side for side in weighted if side.ready))
        object.__setattr__(self, "stable", next((side for side in weighted if side.side is Side.STABLE), None))
        alone = len(weighted) == 1 and len(weighted[0].targets) == 1
        object.__setattr__(self, "only", weighted[0].targets[0] if alone else None)

    def own_side(self, sticky: bytes) -> RouteSide:
        """Return the side that a request belongs to, ready or not."""
        weighted = self.weighted
        if len(weighted) == 1:
            return weighted[0]
        known = self._known
        side = known.get(sticky)
        if side is None:
            if len(known) >= _KNOWN:
                known.clear()
            side = known[sticky] = pick(sticky, weighted)
        return side

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None for free."""
        return self.document.spec.price


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Snapshot:
    """What all requests that arrive at one moment are answered by."""

    revision: str | None
    policy: GatewayPolicyBody
    routes: Mapping[str, ModelRoute]
    router: Router
    absent: tuple[str, ...]
    """One sentence for each service with a weight that is not ready."""

    @property
    def unapplied(self) -> tuple[str, ...]:
        """One sentence for each rule that cannot take effect."""
        return self.router.unapplied
