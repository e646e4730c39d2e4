"""Why credentials are refused: a closed list for metrics, and the errors for clients, which never say which it was."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import ForbiddenError, UnauthorizedError

WRONG = (
    "expected a valid API key or token in `authorization: Bearer …` or `x-api-key`; "
    "got one that is malformed, unknown, expired or revoked: correct it, or ask for a new one"
)
MISSING = "expected an API key or token in `authorization: Bearer …` or `x-api-key`; got none: send one"
SEVERAL = "expected one credential; got several: send it once, in one header"


class Refusal(StrEnum):
    """Metric label of a refused credential."""

    MISSING = "missing"
    SEVERAL = "several"
    MALFORMED = "malformed"
    KEY = "key"
    """An API key that is unknown, wrong, expired or revoked."""
    SCOPE = "scope"
    TENANT = "tenant"
    TOKEN_FORM = "token_form"  # noqa: S105 - a reason's name
    TOKEN_ALGORITHM = "token_algorithm"  # noqa: S105
    TOKEN_ISSUER = "token_issuer"  # noqa: S105
    TOKEN_KEY = "token_key"  # noqa: S105
    TOKEN_SIGNATURE = "token_signature"  # noqa: S105
    TOKEN_CLAIMS = "token_claims"  # noqa: S105


class WrongCredentialError(UnauthorizedError):
    """A credential that is refused; `reason` is for metrics only."""

    def __init__(self, reason: Refusal, message: str = WRONG) -> None:
        super().__init__(message)
        self.reason = reason


class NotAllowedError(ForbiddenError):
    """A credential that is right and may not do this; `reason` is for metrics only."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason
