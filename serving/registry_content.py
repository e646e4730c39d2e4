"""What one model version is made of, and the tags and aliases that it is found by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

CONTENT_TAG: Final = "nexus.content"
WEIGHTS_TAG: Final = "nexus.weights_digest"
COMPLETE_TAG: Final = "nexus.complete"
CANDIDATE_ALIAS: Final = "candidate"
STABLE_ALIAS: Final = "stable"


@dataclass(frozen=True)
class VersionContent:
    """What one model version is made of.

    Args:
        model: Registered model name.
        folder: Weights in Hugging Face format.
        weights_digest: Digest that `folder` must have.
        content_digest: Identity; versions with the same one are the same version.
        params: Written to the run.
        metrics: Written to the run; every one a finite number.
        tags: Written to the run and to the version.
        documents: File name to text, kept beside the weights.
    """

    model: str
    folder: Path
    weights_digest: str
    content_digest: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegisteredVersion:
    """A whole version; `storage_uri` is where its weights lie."""

    version: str
    run_id: str
    storage_uri: str
    weights_digest: str
    already_registered: bool
