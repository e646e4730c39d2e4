"""What the lifespan opens and handlers use: reached through ASGI state, never through a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

from starlette.requests import Request

from gateway.api.hot import HotPath
from gateway.auth.authenticator import Authenticator
from gateway.peers import Peers
from gateway.policy_store import PolicyStore


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway."""

    store: PolicyStore
    authenticator: Authenticator
    hot: HotPath
    peers: Peers


class State(TypedDict):
    """The lifespan's state, as ASGI hands it to every request."""

    gateway: Gateway


def gateway_of(request: Request) -> Gateway:
    """Return the running gateway of a request."""
    return cast("State", request.state)["gateway"]
