"""Endpoints: where each InferenceService of this machine answers. The node writes it, the gateway reads it."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from serving.contracts.base import Name, StrictModel

HttpAddress = Annotated[str, StringConstraints(pattern=r"^http://[A-Za-z0-9.\-]+(:[0-9]{1,5})?/?$")]
"""`http://host[:port]`: engines answer in clear text on loopback or behind the mesh."""


class ServiceEndpoint(StrictModel):
    """One service. Ready means that it has answered a real completion."""

    url: HttpAddress
    ready: bool


class EndpointDirectory(RootModel[dict[Name, ServiceEndpoint]]):
    """`run/endpoints.json`: service name to endpoint. A service that is not listed is not ready."""

    model_config = ConfigDict(frozen=True)

    root: dict[Name, ServiceEndpoint] = Field(default_factory=dict)
