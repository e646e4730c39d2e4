"""Where a request's credential stands: `Authorization: Bearer …` (OpenAI) or `x-api-key` (Anthropic)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.auth.refusals import SEVERAL, Refusal, WrongCredentialError

AUTHORIZATION: Final = b"authorization"
API_KEY: Final = b"x-api-key"
MAX_CREDENTIAL_BYTES: Final = 8_192
"""Tokens of large identity providers stay below 4 kB."""

_BEARER: Final = b"bearer "


def credential_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes | None]:
    """Return the values of `authorization` and `x-api-key`, None where there is no such header.

    Args:
        headers: Names in lower case, as ASGI has them.

    Raises:
        WrongCredentialError: One of them stands twice: two readers might take different ones for the right one.
    """
    authorization = api_key = None
    for name, value in headers:
        if name == AUTHORIZATION:
            if authorization is not None:
                raise WrongCredentialError(Refusal.SEVERAL, SEVERAL)
            authorization = value
        elif name == API_KEY:
            if api_key is not None:
                raise WrongCredentialError(Refusal.SEVERAL, SEVERAL)
            api_key = value
    return authorization, api_key


def credential_of(authorization: bytes | None, api_key: bytes | None) -> bytes | None:
    """Return the one credential of a request; None when it has none.

    Raises:
        WrongCredentialError: The headers name different ones, or it is no Bearer credential, empty, or too long.
    """
    if authorization is None:
        credential = api_key
    else:
        if authorization[:7].lower() != _BEARER:
            raise WrongCredentialError(Refusal.MALFORMED)
        credential = authorization[7:]
        if api_key is not None and api_key != credential:
            raise WrongCredentialError(Refusal.SEVERAL, SEVERAL)
    if credential is None:
        return None
    if not 0 < len(credential) <= MAX_CREDENTIAL_BYTES:
        raise WrongCredentialError(Refusal.MALFORMED)
    return credential
