"""In which order a request's endpoints are tried: its own side, the stable one, then the fallbacks' routes.

- Within a side the endpoint with the fewest outstanding tokens comes first, and full ones after all that are not.
- A request leaves its side only for the stable one: nobody meets a candidate, or weighs on a baseline, whose share
  they are not of.
- Endpoints that are not ready, drained, held back or ejected by their breaker are passed over. At most the policy's
  share of a model's endpoints, and at least one, is ejected at once; those that opened first. The others are tried all
  the same: when everything looks broken it may be the requests, and too few endpoints would fall under the load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

from gateway.resilience.endpoint import EndpointState
from gateway.routing.rules import Decision
from gateway.routing.snapshot import ModelRoute, RouteSide, Target

_TURN = count()
"""Where the search among equals begins: so that ties take turns."""

_FEW = 8
"""Replicas of which all are compared; of more, a few neighbours taken in turn (power of choices)."""


def plan(decision: Decision, clock: Callable[[], float] = time.monotonic) -> Iterator[Target]:
    """Yield endpoints in the order in which to try them, each at most once; their state is looked at when asked for.

    Args:
        decision: Where the request goes.
        clock: Monotonic seconds, the endpoints' clock.
    """
    tried: set[EndpointState] = set()
    first = decision.route.only or _only(own_side(decision))
    if first is not None and first.ready and first.state.usable(clock()):
        yield first
        tried.add(first.state)
    for route in _routes(decision):
        for side in _sides(route, decision.sticky):
            while side.ready:
                target = _best(route, side, tried, clock())
                if target is None:
                    break
                yield target
                tried.add(target.state)


def own_side(decision: Decision) -> RouteSide:
    """Return the side that the request belongs to, ready or not; for the count of diverted requests."""
    return decision.route.own_side(decision.sticky)


def _only(side: RouteSide) -> Target | None:
    return side.targets[0] if len(side.targets) == 1 else None


def _routes(decision: Decision) -> Iterator[ModelRoute]:
    yield decision.route
    for name in decision.route.fallbacks:
        route = decision.routes.get(name)
        if route is not None and (decision.models is None or name in decision.models):
            yield route


def _sides(route: ModelRoute, sticky: bytes) -> Iterator[RouteSide]:
    own = route.own_side(sticky)
    yield own
    if route.stable is not None and own is not route.stable:
        yield route.stable


def _best(route: ModelRoute, side: RouteSide, tried: set[EndpointState], now: float) -> Target | None:
    targets = side.targets
    start = next(_TURN) if len(targets) > 1 else 0
    best: Target | None = None
    best_load: tuple[bool, int] = (True, 0)
    seen = 0
    for offset in range(len(targets)):
        target = targets[(start + offset) % len(targets)]
        state = target.state
        if state in tried or not (state.usable(now) or _kept(route, state, now)):
            continue
        load = (state.full, state.outstanding)
        if best is None or load < best_load:
            best, best_load = target, load
        seen += 1
        if seen >= _FEW:
            break
    return best


def _kept(route: ModelRoute, state: EndpointState, now: float) -> bool:
    """Tell whether an endpoint is tried although its breaker is open, because enough others are ejected."""
    if state.drained or now < state.held_until:
        return False
    states = {target.state for side in route.weighted if side.ready for target in side.targets}
    opened = sorted((one.breaker.opened_at, one.address) for one in states if not one.breaker.allows(now))
    ejected = max(1, int(state.breaker.policy.max_ejected_fraction * len(states)))
    return (state.breaker.opened_at, state.address) in opened[ejected:]
