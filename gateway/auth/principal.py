"""Principal: who asks, as the credential says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from serving.contracts.authentication import ANONYMOUS_TENANT, Priority


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. Built once for each key (JSON Web Token) and shared by its requests.

    Attributes:
        tenant: Who owns the credential.
        priority: The tenant's.
        key_id: Public id of the API key, of the first of its rotations: limits and spend go on; None for tokens and
            anonymous requests.
        user: User that the token names; None lets the request name one.
        models: Models that key and tenant both allow; None for all.
        claims: The token's claims that are text.
    """

    tenant: str
    priority: Priority = Priority.NORMAL
    key_id: str | None = None
    user: bytes | None = None
    models: frozenset[str] | None = None
    claims: Mapping[str, str] = field(default_factory=dict)


ANONYMOUS: Final = Principal(ANONYMOUS_TENANT)
