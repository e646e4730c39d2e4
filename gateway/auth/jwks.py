"""Jwks: an issuer's public keys, fetched before they are needed and never more often than allowed.

Failure policy: an issuer that does not answer changes nothing for keys that are known, for a day; it is logged, counted
and shown by /health/ready. Before the first answer its tokens are refused with 503, not 401.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from serving.contracts.authentication import JwtIssuer

REFRESH_SECONDS: Final = 300.0
"""Age at which keys are fetched anew, so that one the issuer withdrew is soon refused."""

MIN_FETCH_SECONDS: Final = 10.0
"""Between two fetches of one issuer, however many tokens name keys that it does not have."""

KEEP_SECONDS: Final = 86_400.0
"""How long keys are believed while the issuer does not answer."""

_MAX_KEYS: Final = 100
_MAX_UNKNOWN: Final = 1_000
_UNKNOWN_SECONDS: Final = 60.0
_MIN_RSA_BITS: Final = 2_048  # RFC 7518, 3.3

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Fetch = Callable[[str], Awaitable[bytes]]

log = logging.getLogger(__name__)


class JwksError(Exception):
    """The issuer gave no keys: not reached, or what came is no JSON Web Key Set."""


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key and the algorithms it may verify; a token never chooses another one for it."""

    key: PublicKey
    algorithms: frozenset[str]


class Jwks:
    """Keys of one issuer.

    Args:
        issuer: As the policy has it.
        fetch: Gets a document within a time and size limit; raises JwksError.
        on_fetch: Told the outcome of each fetch, `ok` or `failed`.
        on_change: Told when keys have changed.
        tasks: Owner of fetches: a client that leaves does not cancel what others wait for.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        issuer: JwtIssuer,
        fetch: Fetch,
        on_fetch: Callable[[str], None],
        on_change: Callable[[], None],
        *,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._on_fetch = on_fetch
        self._on_change = on_change
        self._tasks = tasks
        self._clock = clock
        self._keys: Mapping[str, VerifyKey] = {}
        self._unknown: dict[str, float] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._problem: str | None = None

    @property
    def known(self) -> bool:
        """Whether there are keys that may still be believed."""
        return self._clock() - self._fetched < KEEP_SECONDS

    @property
    def stale(self) -> bool:
        """Whether it is time to fetch them anew."""
        now = self._clock()
        return now - self._fetched >= REFRESH_SECONDS and now - self._tried >= MIN_FETCH_SECONDS

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not as it should be, for people."""
        if self._problem is None:
            return ()
        kept = "its last known keys stay in force" if self.known else "its tokens are refused"
        return (f"keys of issuer {self._issuer.issuer}: {self._problem}; {kept}",)

    def find(self, kid: str) -> VerifyKey | None:
        """Return a key that is known."""
        return self._keys.get(kid) if self.known else None

    def may_look_up(self, kid: str) -> bool:
        """Tell whether the issuer may be asked for a key that is not known, or is being asked."""
        now = self._clock()
        asking = self._flight is not None and not self._flight.done()
        return now >= self._unknown.get(kid, 0.0) and (asking or now - self._tried >= MIN_FETCH_SECONDS)

    async def look_up(self, kid: str) -> VerifyKey | None:
        """Return a key, asking the issuer once for all who wait; None when it has none of this id."""
        if self.find(kid) is None and self.may_look_up(kid):
            await self.refresh()
        found = self.find(kid)
        if found is None and self.known:
            if len(self._unknown) >= _MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[kid] = self._clock() + _UNKNOWN_SECONDS
        return found

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is under way; a failure leaves the last ones."""
        if self._flight is None or self._flight.done():
            self._tried = self._clock()
            self._flight = self._tasks.create_task(self._refresh())
        await asyncio.shield(self._flight)

    async def _refresh(self) -> None:
        try:
            keys = parse_jwks(await self._fetch(self._issuer.jwks_url), self._issuer.algorithms)
        except Exception as exc:
            self._on_fetch("failed")
            if self._problem is None:
                log.exception("an issuer's keys cannot be fetched", extra={"fields": {"issuer": self._issuer.issuer}})
            self._problem = str(exc) if isinstance(exc, JwksError) else "the gateway failed, see its log"
            return
        self._on_fetch("ok")
        if self._problem is not None:
            log.warning("an issuer's keys are fetched again", extra={"fields": {"issuer": self._issuer.issuer}})
        self._problem = None
        changed = keys != self._keys
        self._keys, self._fetched = keys, self._clock()
        self._unknown.clear()
        if changed:
            self._on_change()


def parse_jwks(raw: bytes, allowed: tuple[str, ...]) -> dict[str, VerifyKey]:
    """Read a JSON Web Key Set (RFC 7517); keys that cannot verify our tokens are left out.

    Args:
        raw: The document.
        allowed: Algorithms of the issuer.

    Raises:
        JwksError: It is no key set, or no key of it can be used.
    """
    try:
        document = orjson.loads(raw)
        entries = document["keys"]
        if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
            raise JwksError(f"expected a list of at most {_MAX_KEYS} keys")
    except (ValueError, KeyError, TypeError) as exc:
        raise JwksError("expected a JSON Web Key Set; got something else") from exc
    keys: dict[str, VerifyKey] = {}
    for entry in entries:
        found = _parse_key(entry, frozenset(allowed)) if isinstance(entry, dict) else None
        if found is not None:
            if entry["kid"] in keys:
                raise JwksError("expected each key id once; got one more than once")
            keys[entry["kid"]] = found
    if not keys:
        raise JwksError(f"expected a key with a kid for {', '.join(allowed)}; got none")
    return keys


def _parse_key(entry: dict[str, Any], allowed: frozenset[str]) -> VerifyKey | None:
    """Read one public key; None when it is not one for signatures that the issuer may use."""
    kid, operations = entry.get("kid"), entry.get("key_ops")
    if not isinstance(kid, str) or not kid or entry.get("use", "sig") != "sig":
        return None
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    try:
        fit = _ALGORITHMS.get((entry.get("kty"), entry.get("crv")), frozenset()) & allowed
        if "alg" in entry:
            fit &= {entry["alg"]}
        if not fit:
            return None
        key = jwt.PyJWK(entry, algorithm=min(fit)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if not isinstance(key, PublicKey) or (isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS):
        return None
    return VerifyKey(key, fit)


_ALGORITHMS: Final[Mapping[tuple[object, object], frozenset[str]]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
"""Key type and curve (RFC 7518, 6; RFC 8037) -> what it verifies. Shared secrets (`oct`) are not among them."""
