"""What the admin API works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol, cast

from fastapi import Request

from gateway.admin.audit import AuditLog
from gateway.admin.drains import Drains
from gateway.admin.gate import AdminGate
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_manager import KeyManager
from gateway.errors import NotReadyError
from gateway.peers import Place
from gateway.policy_store import PolicyStore
from serving.contracts.admin_api import SpendRow


class SpendReader(Protocol):
    """Who knows what was used."""

    async def spend(self, first: date, last: date) -> Sequence[SpendRow]:
        """Return what was used in these calendar days (UTC), both included.

        Raises:
            NotReadyError: Redis does not answer.
        """


@dataclass(frozen=True, slots=True)
class AdminState:
    """The parts that the admin API shows and changes. `keys` and `spend` are None without Redis."""

    place: Place
    gate: AdminGate
    store: PolicyStore
    authenticator: Authenticator
    keys: KeyManager | None
    drains: Drains
    spend: SpendReader | None
    audit: AuditLog


def admin_of(request: Request) -> AdminState:
    """Return the state of the application that a request is for."""
    return cast("AdminState", request.app.state.admin)


def keys_of(request: Request) -> KeyManager:
    """Return who changes keys.

    Raises:
        NotReadyError: There are no keys here.
    """
    keys = admin_of(request).keys
    if keys is None:
        raise NotReadyError(
            "expected a gateway with API keys; this one has none: set NEXUS_GATEWAY_REDIS_URL and "
            "NEXUS_GATEWAY_KEY_PEPPER"
        )
    return keys


def actor_of(request: Request) -> str:
    """Return who asks, as the gate has found."""
    return cast("str", request.scope["nexus.actor"])
