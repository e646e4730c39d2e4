"""Gateway policy: how the gateway treats every request. Routes stand in files of their own, one a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.contracts.base import API_VERSION, Metadata, StrictModel


class Timeouts(StrictModel):
    """Limits on waiting for an upstream, in seconds."""

    connect_seconds: float = Field(default=2.0, gt=0)
    first_byte_seconds: float = Field(
        default=60.0, gt=0, description="From the request's end to the first byte of the answer's body."
    )
    between_bytes_seconds: float = Field(default=30.0, gt=0)
    total_seconds: float = Field(default=600.0, gt=0, description="From the request's end to the answer's last byte.")


class RequestLimits(StrictModel):
    """Limits on what a client may send."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    max_json_depth: int = Field(default=32, ge=4, le=256)
    body_seconds: float = Field(default=30.0, gt=0, description="From the request's head to its body's last byte.")


class GatewayPolicyBody(StrictModel):
    """Body of a gateway policy."""

    timeouts: Timeouts = Timeouts()
    request_limits: RequestLimits = RequestLimits()
    service_url_template: str = Field(
        default="http://{service}-predictor.models.svc.cluster.local",
        pattern=r"^http://[^{}\s/]*\{service\}[^{}\s/]*$",
        description="Address of an InferenceService where the gateway is given no endpoints file.",
    )


class GatewayPolicy(StrictModel):
    """`kind: GatewayPolicy`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["GatewayPolicy"]
    metadata: Metadata
    spec: GatewayPolicyBody
