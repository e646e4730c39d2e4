"""Gateway policy: how the gateway treats every request. Routes stand in files of their own, one a model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.authentication import Authentication, Tenant
from serving.contracts.base import API_VERSION, Fraction, Metadata, StrictModel
from serving.contracts.limits import Limits
from serving.contracts.resilience import Breaker, Overload, Retry
from serving.contracts.routing_rules import RoutingRule


class Timeouts(StrictModel):
    """Limits on waiting for an upstream, in seconds."""

    connect_seconds: float = Field(default=2.0, gt=0)
    first_byte_seconds: float = Field(
        default=60.0,
        gt=0,
        description="From the request's end to the first byte of the answer's body: a stream's first token.",
    )
    between_bytes_seconds: float = Field(default=30.0, gt=0, description="Between two reads: a stream's next token.")
    total_seconds: float = Field(default=600.0, gt=0, description="From the request's end to the answer's last byte.")


class RequestLimits(StrictModel):
    """Limits on what a client may send."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    max_json_depth: int = Field(default=32, ge=4, le=256)
    body_seconds: float = Field(default=30.0, gt=0, description="From the request's head to its body's last byte.")


class Idempotency(StrictModel):
    """What `Idempotency-Key` promises."""

    keep_seconds: int = Field(default=86_400, ge=1, le=604_800, description="How long an answer is kept for repeats.")
    max_answer_bytes: int = Field(
        default=1_048_576, ge=1024, description="Longer answers are not kept; repeats get 422."
    )


class Tracing(StrictModel):
    """Spans of requests; a caller's `traceparent` decides for its own requests."""

    sample_fraction: Fraction = Field(
        default=0.0, description="Share of requests without a traceparent that is traced."
    )


class GatewayPolicyBody(StrictModel):
    """Body of a gateway policy."""

    timeouts: Timeouts = Timeouts()
    request_limits: RequestLimits = RequestLimits()
    service_url_template: str = Field(
        default="http://{service}-predictor.models.svc.cluster.local",
        pattern=r"^http://[^{}\s/]*\{service\}[^{}\s/]*$",
        description="Address of an InferenceService where the gateway is given no endpoints file.",
    )
    authentication: Authentication = Authentication()
    tenants: tuple[Tenant, ...] = ()
    limits: Limits = Limits()
    routing: tuple[RoutingRule, ...] = Field(
        default=(), description="Tried in order; the first that matches names the model that answers."
    )
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    overload: Overload = Overload()
    idempotency: Idempotency = Idempotency()
    tracing: Tracing = Tracing()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for what, names in {
            "tenants": [tenant.name for tenant in self.tenants],
            "limits.rules": [rule.name for rule in self.limits.rules],
            "routing": [rule.name for rule in self.routing],
        }.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"expected each name of {what} once; got {', '.join(twice)} more than once")
        known = {tenant.name for tenant in self.tenants}
        named = {name for rule in self.limits.rules for name in rule.tenants}
        named |= {name for rule in self.routing for name in rule.match.tenants}
        if unknown := sorted(named - known):
            raise ValueError(f"expected only tenants that are listed; got {', '.join(unknown)}: add them to `tenants`")
        return self


class GatewayPolicy(StrictModel):
    """`kind: GatewayPolicy`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["GatewayPolicy"]
    metadata: Metadata
    spec: GatewayPolicyBody
