"""An authenticator over keys in memory and a fake issuer, with a clock that a test moves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, cast

from pydantic import SecretStr

from gateway.auth.authenticator import Authenticator
from gateway.auth.issuers import Issuers
from gateway.auth.key_format import new_key
from gateway.auth.key_record import KeyRecord
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_store import KeyStore
from gateway.auth.principal import Principal
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.admin_api import KeyScope
from serving.contracts.gateway_policy import GatewayPolicyBody
from tests.fakes.token_issuer import AUDIENCE, ISSUER, TokenIssuer

POLICY: dict[str, Any] = {
    "authentication": {
        "required": True,
        "jwt": [
            {
                "issuer": ISSUER,
                "audience": AUDIENCE,
                "algorithms": ["RS256", "ES256", "EdDSA"],
                "jwks_url": "https://idp.example/jwks",
            }
        ],
    },
    "tenants": [
        {"name": "acme", "priority": "high", "models": ["m", "n"]},
        {"name": "free"},
    ],
}


def policy(**changes: Any) -> GatewayPolicyBody:
    return GatewayPolicyBody.model_validate(POLICY | changes)


class KeysInMemory:
    """What the authenticator needs of a key store."""

    def __init__(self) -> None:
        self.ring = KeyRing(SecretStr("pepper-" * 6))
        self.loaded = True
        self.reasons: tuple[str, ...] = ()


class Auth:
    """The authenticator and everything it stands on."""

    def __init__(self, tasks: asyncio.TaskGroup, *, with_keys: bool = True) -> None:
        self.now = time.time()
        self.metrics = GatewayMetrics()
        self.issuer = TokenIssuer()
        self.keys = KeysInMemory()
        keys = cast("KeyStore", self.keys) if with_keys else None
        self.authenticator = Authenticator(keys, self.metrics, tasks, clock=lambda: self.now)
        self.authenticator._open_issuers = lambda: Issuers(  # type: ignore[method-assign]
            self.issuer.fetch, self.metrics.jwks_fetched, self.authenticator._forget, tasks
        )
        self.policy = policy()

    def key(self, **changes: Any) -> tuple[str, KeyRecord]:
        """Put a key in and return its credential and record."""
        made = new_key()
        record = KeyRecord(
            made.key_id, "acme", "n", self.keys.ring.digest(made.credential), 1.0, (KeyScope.INFERENCE,), made.key_id
        )
        record = replace(record, **changes)
        self.keys.ring.put([record])
        return made.credential, record

    def identify(self, credential: str | bytes | None) -> Principal | None:
        """Identify by an `authorization` header."""
        raw = credential.encode() if isinstance(credential, str) else credential
        return self.authenticator.identify(self.policy, None if raw is None else b"Bearer " + raw, None)

    async def identify_slowly(self, credential: str | bytes) -> Principal:
        """The same, with the issuer asked if need be."""
        raw = credential.encode() if isinstance(credential, str) else credential
        return await self.authenticator.identify_slowly(self.policy, b"Bearer " + raw, None)

    def refusals(self) -> dict[str, float]:
        """Return how many credentials were refused by reason."""
        lines = self.metrics.render().decode().splitlines()
        start = 'nexus_gateway_auth_refusals_total{reason="'
        return {
            line.removeprefix(start).split('"')[0]: float(line.split()[-1]) for line in lines if line.startswith(start)
        }
