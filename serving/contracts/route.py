"""Route: which endpoints answer for one model, what share of its users each has, and what happens besides."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.base import API_VERSION, Fraction, Metadata, ModelName, Name, StrictModel
from serving.contracts.observation import Side
from serving.contracts.routing_rules import Match, StickyBy


class RouteEndpoint(StrictModel):
    """Who answers: an InferenceService of ours, or an external provider's model through the provider adapter."""

    service: Name = Field(description="InferenceService; with `provider_model` only a name for metrics and breakers.")
    side: Side
    weight_percent: int = Field(ge=0, le=100)
    provider_model: ModelName | None = Field(
        default=None, description="LiteLLM's name of an external model, such as anthropic/claude-sonnet-4."
    )


class Price(StrictModel):
    """What tokens cost, for budgets in USD and for spend."""

    input_usd_per_million_tokens: float = Field(ge=0)
    output_usd_per_million_tokens: float = Field(ge=0)


class Shadow(StrictModel):
    """A copy of some requests to another model; never delays or fails the primary."""

    model: ModelName
    fraction: Fraction
    match: Match = Match()


class RouteBody(StrictModel):
    """Body of a route. Weights sum to 100; a side stands at most once."""

    model: ModelName
    release_id: Name | None = Field(default=None, description="Release being judged; None between releases.")
    endpoints: tuple[RouteEndpoint, ...] = Field(min_length=1)
    sticky_by: StickyBy = StickyBy.USER
    fallbacks: tuple[ModelName, ...] = Field(
        default=(), description="Models tried in this order when no endpoint of this one can answer."
    )
    price: Price | None = Field(default=None, description="None counts as free in budgets.")
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _weights(self) -> Self:
        total = sum(endpoint.weight_percent for endpoint in self.endpoints)
        if total != 100:
            raise ValueError(f"weights must sum to 100; got {total}")
        sides = [endpoint.side for endpoint in self.endpoints]
        if len(set(sides)) != len(sides):
            raise ValueError(f"a side stands at most once; got {[str(s) for s in sides]}")
        if self.model in self.fallbacks or len(set(self.fallbacks)) != len(self.fallbacks):
            raise ValueError("expected each fallback once, and never the model itself")
        return self


class Route(StrictModel):
    """`kind: Route`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["Route"]
    metadata: Metadata
    spec: RouteBody
