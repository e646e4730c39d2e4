"""What the registry and the GitOps repository know of a release: the registered version and where it is deployed."""

from __future__ import annotations

from pydantic import Field

from serving.contracts.base import Digest, Name, StrictModel


class Registration(StrictModel):
    """A registered model version; the same content is registered once."""

    model: Name
    version: str = Field(description="MLflow model version, a number as text.")
    run_id: str
    storage_uri: str = Field(description="Where an engine loads the weights from.")
    weights_digest: Digest
    data_digest: Digest
    candidate: Name
    already_registered: bool


class Deployment(StrictModel):
    """A candidate in the GitOps repository, at 0 % of the traffic.

    `baseline_service` is the same-age clone of the stable version, None on a first release.
    """

    model: Name
    release_id: Name
    candidate_service: Name
    stable_service: Name | None
    baseline_service: Name | None
    commit: str
    committed_at: float | None = Field(default=None, description="Unix seconds of the commit; None in older records.")
    ready_seconds: float = Field(ge=0)
    failure: str | None = Field(
        default=None, description="How the candidate's own engine failed to answer; None when it answers."
    )
    last_words: tuple[str, ...] = Field(default=(), description="Last log lines of an engine that failed.")
