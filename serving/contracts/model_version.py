"""Model version: what an environment serves as stable; promotion to another environment copies this one file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.contracts.base import API_VERSION, Digest, Metadata, Name, StrictModel
from serving.contracts.release_spec import EngineSettings


class ModelVersionBody(StrictModel):
    """Everything needed to serve this version again."""

    model: Name
    release_id: Name = Field(description="Release that promoted it.")
    service: Name = Field(description="InferenceService that answers for it.")
    registry_version: str
    storage_uri: str
    weights_digest: Digest
    engine: EngineSettings


class ModelVersion(StrictModel):
    """`kind: ModelVersion`, the file `version.yaml`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: Metadata
    spec: ModelVersionBody
