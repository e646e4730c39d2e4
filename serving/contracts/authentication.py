"""Who may ask: API keys, JSON Web Tokens, and the tenants that both belong to."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.base import ModelName, Name, StrictModel

ANONYMOUS_TENANT = "anonymous"
"""Tenant of requests without a credential where authentication is optional."""

JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures by a private key only: a shared secret or `none` can never be configured."""


class Priority(StrEnum):
    """Whose requests wait, and are shed, last."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Tenant(StrictModel):
    """Who owns keys and is limited, billed and routed as one."""

    name: Name
    priority: Priority = Priority.NORMAL
    models: tuple[ModelName, ...] = Field(default=(), description="Models it may use; empty for all.")


class JwtIssuer(StrictModel):
    """An identity provider whose tokens are accepted."""

    issuer: str = Field(min_length=1, description="Exact `iss`.")
    audience: str = Field(min_length=1, description="One of the token's `aud`.")
    algorithms: tuple[JwtAlgorithm, ...] = Field(min_length=1)
    jwks_url: str = Field(pattern=r"^https?://\S+$", description="Where the issuer publishes its keys.")
    leeway_seconds: int = Field(default=30, ge=0, le=300)
    tenant_claim: str = Field(default="tenant", min_length=1, description="Claim that names the tenant.")
    user_claim: str = Field(default="sub", min_length=1, description="Claim that names the user.")


class Authentication(StrictModel):
    """Which credentials are accepted, and whether one is needed."""

    required: bool = Field(
        default=False, description="Refuse requests without a credential; a wrong one is always refused."
    )
    jwt: tuple[JwtIssuer, ...] = ()

    @model_validator(mode="after")
    def _issuers(self) -> Self:
        issuers = [entry.issuer for entry in self.jwt]
        if len(set(issuers)) != len(issuers):
            raise ValueError("expected each issuer once; got one more than once")
        return self
