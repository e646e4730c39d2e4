"""Base classes of every Nexus document: strict, frozen, versioned.

A document is a YAML or JSON mapping with `apiVersion`, `kind`, `metadata` and `spec`. What belongs to one kind lives
in that kind's module; what all kinds share lives here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

API_VERSION: Literal["nexus/v1alpha1"] = "nexus/v1alpha1"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
"""A DNS label of at most 53 characters, so that derived Kubernetes names stay under 63."""

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$")]
"""A model as clients write it, such as `support-assistant` or `anthropic/claude-sonnet-4`."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""Content digest in the form `sha256:<64 hex>`."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""


class StrictModel(BaseModel):
    """Part of a document: unknown keys and silent type changes are errors, values never change.

    Python code may construct it from lists and names of enum members; JSON, and so every document, is read strictly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def model_validate_json(
        cls, json_data: str | bytes | bytearray, *, strict: bool | None = True, **options: Any
    ) -> Self:
        """Read JSON without guessing: text is no number, a number no boolean; what JSON lacks has its usual form.

        Those are whole numbers for floats, lists for tuples, text for members of an enum, times and paths.
        """
        return super().model_validate_json(json_data, strict=strict, **options)


class Metadata(StrictModel):
    """What names a document."""

    name: Name
    labels: dict[str, str] = Field(default_factory=dict)
