"""Conclusion: how a release ended, written when git, the registry and the node agree on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from serving.contracts.base import API_VERSION, Name, StrictModel


class ReleaseOutcome(StrEnum):
    """The ways a release can end; a held one is taken up again by running it again."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    HELD = "held"
    REJECTED = "rejected"


class Conclusion(StrictModel):
    """`kind: Conclusion`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["Conclusion"] = "Conclusion"
    release_id: Name
    model: Name
    outcome: ReleaseOutcome
    reason: str
    commit: str = Field(description="Commit of the GitOps repository that says so.")
    committed_at: float | None = Field(default=None, description="Unix seconds of the commit; None in older records.")
    evidence: str = Field(description="The commit's evidence trailer.")
    registry_version: str | None = Field(description="Model version that was judged; None when none was registered.")
    stable_service: Name | None = Field(description="InferenceService that answers for the model from here on.")
