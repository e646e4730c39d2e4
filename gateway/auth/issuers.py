"""Issuers: verifies tokens of the policy's identity providers and keeps their keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.auth.jwks import Fetch, Jwks, VerifyKey
from gateway.auth.refusals import Refusal, WrongCredentialError
from gateway.auth.token import Claims, Token, read_token, verify_token
from gateway.errors import NotReadyError
from serving.contracts.authentication import JwtIssuer


class Issuers:
    """The identity providers of one policy after another.

    Args:
        fetch: Gets key sets.
        on_fetch: Told the outcome of each fetch.
        on_change: Told when an issuer has changed or withdrawn keys.
        tasks: Owner of fetches.
    """

    def __init__(
        self,
        fetch: Fetch,
        on_fetch: Callable[[str], None],
        on_change: Callable[[], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._on_change = on_change
        self._tasks = tasks
        self._fetch = fetch
        self._on_fetch = on_fetch
        self._issuers: dict[str, tuple[JwtIssuer, Jwks]] = {}

    def apply(self, issuers: tuple[JwtIssuer, ...]) -> None:
        """Follow a policy; keys of an issuer that stays as it is stay, too."""
        before = self._issuers
        self._issuers = {
            issuer.issuer: known
            if (known := before.get(issuer.issuer)) is not None and known[0] == issuer
            else (issuer, Jwks(issuer, self._fetch, self._on_fetch, self._on_change, tasks=self._tasks))
            for issuer in issuers
        }

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not as it should be, for people."""
        return tuple(reason for _, jwks in self._issuers.values() for reason in jwks.reasons)

    def verify(self, raw: bytes, now: float) -> tuple[JwtIssuer, Claims] | None:
        """Verify a token with what is known; None when its issuer has to be asked for a key first.

        Raises:
            WrongCredentialError: It is wrong.
            NotReadyError: Its issuer's keys are not known, and it was asked just now.
        """
        token = read_token(raw)
        issuer, jwks = self._of(token)
        key = jwks.find(token.kid)
        if key is not None:
            return issuer, verify_token(token, key, issuer, now)
        if jwks.may_look_up(token.kid):
            return None
        raise _absent(jwks)

    async def verify_slowly(self, raw: bytes, now: float) -> tuple[JwtIssuer, Claims]:
        """Verify a token, asking its issuer for the key if that is allowed.

        Raises:
            WrongCredentialError: It is wrong.
            NotReadyError: Its issuer's keys are not known, and it does not give them.
        """
        token = read_token(raw)
        issuer, jwks = self._of(token)
        key: VerifyKey | None = await jwks.look_up(token.kid)
        if key is None:
            raise _absent(jwks)
        return issuer, verify_token(token, key, issuer, now)

    def _of(self, token: Token) -> tuple[JwtIssuer, Jwks]:
        found = self._issuers.get(token.issuer)
        if found is None:
            raise WrongCredentialError(Refusal.TOKEN_ISSUER)
        if token.algorithm not in found[0].algorithms:  # before anybody is asked for a key
            raise WrongCredentialError(Refusal.TOKEN_ALGORITHM)
        return found

    async def refresh(self) -> None:
        """Fetch the keys that are missing or old."""
        for _, jwks in tuple(self._issuers.values()):
            if jwks.stale:
                await jwks.refresh()


def _absent(jwks: Jwks) -> Exception:
    if jwks.known:
        return WrongCredentialError(Refusal.TOKEN_KEY)
    return NotReadyError(
        "expected the token issuer's keys; it does not give them: try again later", retry_after_seconds=10
    )
