"""Route: which services answer for one model, and what share of its users each has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from serving.contracts.base import API_VERSION, Metadata, Name, StrictModel
from serving.contracts.observation import Side


class RouteEndpoint(StrictModel):
    """One InferenceService behind the model."""

    service: Name
    side: Side
    weight_percent: int = Field(ge=0, le=100)


class RouteBody(StrictModel):
    """Body of a route. Weights sum to 100; a side stands at most once."""

    model: Name
    release_id: Name | None = Field(default=None, description="Release being judged; None between releases.")
    endpoints: tuple[RouteEndpoint, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights(self) -> Self:
        total = sum(endpoint.weight_percent for endpoint in self.endpoints)
        if total != 100:
            raise ValueError(f"weights must sum to 100; got {total}")
        sides = [endpoint.side for endpoint in self.endpoints]
        if len(set(sides)) != len(sides):
            raise ValueError(f"a side stands at most once; got {[str(s) for s in sides]}")
        return self


class Route(StrictModel):
    """`kind: Route`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["Route"]
    metadata: Metadata
    spec: RouteBody
