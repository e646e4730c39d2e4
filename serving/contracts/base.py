"""Base classes of every Nexus document: strict, frozen, versioned.

A document is a YAML or JSON mapping with `apiVersion`, `kind`, `metadata` and `spec`. What belongs to one kind lives
in that kind's module; what all kinds share lives here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

API_VERSION: Literal["nexus/v1alpha1"] = "nexus/v1alpha1"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
"""A DNS label of at most 53 characters, so that derived Kubernetes names stay under 63."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""Content digest in the form `sha256:<64 hex>`."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""


class StrictModel(BaseModel):
    """Part of a document: unknown keys and silent type changes are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Metadata(StrictModel):
    """What names a document."""

    name: Name
    labels: dict[str, str] = Field(default_factory=dict)
