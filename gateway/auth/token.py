"""JSON Web Tokens: read strictly, verified with the issuer's key and pinned algorithms, claims checked by type.

Source: RFC 8725 (best current practices), RFC 7515 and 7519. What a token says about its own key (`jku`, `jwk`, `x5u`,
`x5c`) is never looked at.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import orjson

from gateway.auth.jwks import VerifyKey
from gateway.auth.refusals import Refusal, WrongCredentialError
from serving.contracts.authentication import JwtIssuer

_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 7519, 5.1; RFC 9068, 2.1
_MAX_KID_CHARACTERS: Final = 256
_MAX_USER_CHARACTERS: Final = 256
_MAX_CLAIMS: Final = 64
_MAX_CLAIM_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has been read and not verified: nothing in it may be believed."""

    raw: bytes = field(repr=False)
    algorithm: str
    kid: str
    issuer: str
    claims: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says.

    Attributes:
        begins: From when on it is accepted, leeway included; seconds since 1970.
        ends: When it stops being accepted, leeway included.
        user: Who it is for.
        tenant: Value of the tenant claim as it stands there, None when there is none.
        text: Claims that are short text, for routing rules.
    """

    begins: float
    ends: float
    user: str
    tenant: object
    text: dict[str, str]


def looks_like_token(credential: bytes) -> bool:
    """Tell whether a credential has the form of a signed token."""
    return _TOKEN.fullmatch(credential) is not None


def read_token(raw: bytes) -> Token:
    """Take a token apart.

    Raises:
        WrongCredentialError: It is not in compact form, or its header is not one that is accepted.
    """
    if not looks_like_token(raw):
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    head, body, _ = raw.split(b".")
    header, claims = _object(head), _object(body)
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: what is not understood must be refused
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_CHARACTERS:
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    if not isinstance(algorithm, str) or not isinstance(issuer, str):
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    return Token(raw, algorithm, kid, issuer, claims)


def _bytes(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        raise WrongCredentialError(Refusal.TOKEN_FORM) from None


def _object(part: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(_bytes(part))
    except orjson.JSONDecodeError:
        raise WrongCredentialError(Refusal.TOKEN_FORM) from None
    if not isinstance(value, dict):
        raise WrongCredentialError(Refusal.TOKEN_FORM)
    return value


def verify_token(token: Token, key: VerifyKey, issuer: JwtIssuer, now: float) -> Claims:
    """Check signature and claims.

    Args:
        token: As read.
        key: The issuer's key that the token names.
        issuer: Whose tokens they are.
        now: Seconds since 1970.

    Raises:
        WrongCredentialError: Something is missing or wrong; which, only the metric says.
    """
    if token.algorithm not in issuer.algorithms or token.algorithm not in key.algorithms:
        raise WrongCredentialError(Refusal.TOKEN_ALGORITHM)
    signed, _, signature = token.raw.rpartition(b".")
    if not _SIGNATURES.get_algorithm_by_name(token.algorithm).verify(signed, key.key, _bytes(signature)):
        raise WrongCredentialError(Refusal.TOKEN_SIGNATURE)
    claims, leeway = token.claims, issuer.leeway_seconds
    expires, *starts = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    begins = max((time for time in starts if time is not None), default=-math.inf) - leeway
    audiences = claims.get("aud")
    user = claims.get(issuer.user_claim)
    if (
        expires is None
        or now >= expires + leeway
        or now < begins
        or claims["iss"] != issuer.issuer
        or issuer.audience not in (audiences if isinstance(audiences, list) else [audiences])
        or not isinstance(user, str)
        or not 0 < len(user) <= _MAX_USER_CHARACTERS
        or user[0] == "\0"  # so do ids of those who are known by address alone, whom no limit of users counts
    ):
        raise WrongCredentialError(Refusal.TOKEN_CLAIMS)
    return Claims(begins, expires + leeway, user, claims.get(issuer.tenant_claim), _text(claims))


def _time(claims: dict[str, Any], name: str) -> float | None:
    """Return a NumericDate; a claim that is there and is none makes the token wrong."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WrongCredentialError(Refusal.TOKEN_CLAIMS)
    return float(value)


def _text(claims: dict[str, Any]) -> dict[str, str]:
    short = {
        name: value for name, value in claims.items() if isinstance(value, str) and len(value) <= _MAX_CLAIM_CHARACTERS
    }
    return dict(list(short.items())[:_MAX_CLAIMS])


_SIGNATURES: Final = jwt.PyJWS()
