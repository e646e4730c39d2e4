"""Endpoints: where each InferenceService of this machine answers. The node writes it, the gateway reads it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from serving.contracts.base import Name, StrictModel

_PORT: Final = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"

HttpAddress = Annotated[str, StringConstraints(pattern=rf"^http://[A-Za-z0-9.\-]+(:{_PORT})?/?$")]
"""`http://host[:port]`: engines answer in clear text on loopback or behind the mesh."""


class ServiceEndpoint(StrictModel):
    """One service. Ready means that it has answered a real completion."""

    url: HttpAddress
    ready: bool
    replicas: tuple[HttpAddress, ...] = Field(default=(), description="Where more of the same answer, besides `url`.")


class EndpointDirectory(RootModel[dict[Name, ServiceEndpoint]]):
    """`run/endpoints.json`: service name to endpoint. A service that is not listed is not ready."""

    model_config = ConfigDict(frozen=True)

    root: dict[Name, ServiceEndpoint] = Field(default_factory=dict)
