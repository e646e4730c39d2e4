"""Authenticator: from a request's credential to its principal, in a dictionary look-up for one that was seen before.

Verified credentials are remembered by a keyed hash, never as they are, until they end; any change of keys or policy
forgets them all.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from gateway.auth.credential import credential_of
from gateway.auth.key_record import KeyRecord
from gateway.auth.principal import ANONYMOUS, Principal
from gateway.auth.refusals import MISSING, NotAllowedError, Refusal, WrongCredentialError
from gateway.errors import NotReadyError
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.admin_api import KeyScope
from serving.contracts.authentication import ANONYMOUS_TENANT, JwtIssuer, Tenant
from serving.contracts.gateway_policy import GatewayPolicyBody

if TYPE_CHECKING:
    from gateway.auth.issuers import Issuers
    from gateway.auth.key_store import KeyStore
    from gateway.auth.token import Claims

_MAX_REMEMBERED: Final = 10_000
"""Credentials; some 300 bytes each."""

_LOOK_SECONDS: Final = 1.0
_KEY_START: Final = b"nx_"
_NOBODY: Final = (
    "the policy requires a credential, and there is none that could be right: set NEXUS_GATEWAY_REDIS_URL and "
    "NEXUS_GATEWAY_KEY_PEPPER, or list an issuer in authentication.jwt"
)


class Authenticator:
    """Knows who asks.

    Args:
        keys: The API keys; None when there is no Redis or no pepper, and then every API key is wrong.
        metrics: Where refusals are counted.
        tasks: Owner of the fetches of issuers' keys.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        keys: KeyStore | None,
        metrics: GatewayMetrics,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._metrics = metrics
        self._tasks = tasks
        self._clock = clock
        self._issuers: Issuers | None = None
        self._policy: GatewayPolicyBody | None = None
        self._tenants: dict[str, Tenant] = {}
        self._anonymous = ANONYMOUS
        self._principals: dict[str, Principal] = {}
        self._seen: dict[bytes, tuple[float, float, Principal]] = {}
        self._hash_key = os.urandom(32)
        self._close_client: Callable[[], Awaitable[None]] | None = None
        if keys is not None:
            keys.ring.listen(self._forget)

    def identify(
        self, policy: GatewayPolicyBody, authorization: bytes | None, api_key: bytes | None
    ) -> Principal | None:
        """Return who asks; None when only `identify_slowly` can tell.

        Args:
            policy: The snapshot's; another object than last time is taken in.
            authorization: Value of that header, None when it is absent.
            api_key: Value of `x-api-key`, None when it is absent.

        Raises:
            UnauthorizedError: A credential is needed or the one that came is wrong.
            ForbiddenError: It is right, and its tenant or scope may not ask.
            NotReadyError: It cannot be judged: keys were never loaded.
        """
        if policy is not self._policy:
            self.apply(policy)
        try:
            credential = credential_of(authorization, api_key)
            if credential is None or (self._keys is None and self._issuers is None):
                return self._nobody(policy)
            seen = self._seen.get(blake2b(credential, digest_size=16, key=self._hash_key).digest())
            if seen is not None and seen[0] <= self._clock() < seen[1]:  # a clock that goes back counts, too
                return seen[2]
            return self._judge(credential)
        except (WrongCredentialError, NotAllowedError) as exc:
            self._metrics.auth_refused(exc.reason)
            raise

    async def identify_slowly(
        self, policy: GatewayPolicyBody, authorization: bytes | None, api_key: bytes | None
    ) -> Principal:
        """Return who asks, asking a token's issuer for a key that is not known yet; raises as `identify` does."""
        principal = self.identify(policy, authorization, api_key)
        if principal is not None:
            return principal
        credential = credential_of(authorization, api_key)
        issuers = self._issuers
        assert credential is not None
        assert issuers is not None
        try:
            issuer, claims = await issuers.verify_slowly(credential, self._clock())
            return self._of_token(credential, issuer, claims)
        except (WrongCredentialError, NotAllowedError) as exc:
            self._metrics.auth_refused(exc.reason)
            raise

    def apply(self, policy: GatewayPolicyBody) -> None:
        """Follow a policy."""
        self._policy = policy
        self._tenants = {tenant.name: tenant for tenant in policy.tenants}
        self._forget()
        listed = self._tenants.get(ANONYMOUS_TENANT)
        self._anonymous = (
            ANONYMOUS
            if listed is None
            else Principal(ANONYMOUS_TENANT, listed.priority, models=frozenset(listed.models) or None)
        )
        if policy.authentication.jwt and self._issuers is None:
            self._issuers = self._open_issuers()
        if self._issuers is not None:
            self._issuers.apply(policy.authentication.jwt)

    @property
    def ready(self) -> bool:
        """Whether API keys can be judged, or there are none."""
        return self._keys is None or self._keys.loaded

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not as it should be, for /health/ready."""
        reasons = () if self._keys is None else self._keys.reasons
        if self._issuers is not None:
            reasons += self._issuers.reasons
        policy = self._policy
        if (
            policy is not None
            and policy.authentication.required
            and self._keys is None
            and not policy.authentication.jwt
        ):
            reasons += (_NOBODY,)
        return reasons

    async def run(self) -> None:
        """Keep issuers' keys fresh, until cancelled."""
        while True:
            if self._issuers is not None:
                await self._issuers.refresh()
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Close what fetches issuers' keys."""
        if self._close_client is not None:
            await self._close_client()

    def _open_issuers(self) -> Issuers:
        from gateway.auth.issuers import Issuers  # noqa: PLC0415 - 15 MB that only gateways with issuers need
        from gateway.auth.jwks_client import JwksClient  # noqa: PLC0415

        client = JwksClient()
        self._close_client = client.close
        return Issuers(client, self._metrics.jwks_fetched, self._forget, self._tasks)

    def _judge(self, credential: bytes) -> Principal | None:
        now = self._clock()
        if credential.startswith(_KEY_START):
            return self._of_key(credential, now)
        if self._issuers is None:
            raise WrongCredentialError(Refusal.MALFORMED)
        verified = self._issuers.verify(credential, now)
        return None if verified is None else self._of_token(credential, *verified)

    def _of_key(self, credential: bytes, now: float) -> Principal:
        if self._keys is None:
            raise WrongCredentialError(Refusal.KEY)
        if not self._keys.loaded:
            raise NotReadyError(
                "expected to know API keys; they were never loaded: try again later", retry_after_seconds=1
            )
        record = self._keys.ring.verify(credential, now)
        if record is None:
            raise WrongCredentialError(Refusal.KEY)
        if KeyScope.INFERENCE not in record.scopes:
            raise NotAllowedError(Refusal.SCOPE, "expected an API key of scope inference; got one without it")
        principal = self._principals.get(record.key_id)
        if principal is None:
            principal = self._principals[record.key_id] = self._principal_of(record)
        self._remember(credential, -math.inf, record.ends, principal)
        return principal

    def _principal_of(self, record: KeyRecord) -> Principal:
        tenant = self._tenant(record.tenant, "key")
        models = frozenset(tenant.models) or None
        if record.models:
            models = frozenset(record.models) if models is None else models.intersection(record.models)
        return Principal(tenant.name, tenant.priority, key_id=record.family, models=models)

    def _of_token(self, credential: bytes, issuer: JwtIssuer, claims: Claims) -> Principal:
        tenant = self._tenant(claims.tenant, "token")
        principal = Principal(
            tenant.name,
            tenant.priority,
            user=claims.user.encode(),
            models=frozenset(tenant.models) or None,
            claims=claims.text,
        )
        self._remember(credential, claims.begins, claims.ends, principal)
        return principal

    def _tenant(self, name: object, what: str) -> Tenant:
        tenant = self._tenants.get(name) if isinstance(name, str) else None
        if tenant is None:
            raise NotAllowedError(
                Refusal.TENANT, f"expected the {what} of a tenant that the policy lists; got another's or nobody's"
            )
        return tenant

    def _nobody(self, policy: GatewayPolicyBody) -> Principal:
        if policy.authentication.required:
            raise WrongCredentialError(Refusal.MISSING, MISSING)
        return self._anonymous

    def _remember(self, credential: bytes, begins: float, ends: float, principal: Principal) -> None:
        if len(self._seen) >= _MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[blake2b(credential, digest_size=16, key=self._hash_key).digest()] = (begins, ends, principal)

    def _forget(self) -> None:
        self._principals = {}
        self._seen = {}
