"""What every step of a pipeline is given: its release, this installation's settings, the release's record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from serving.contracts.load import parse_document
from serving.contracts.release_spec import ResolvedRelease
from serving.files import write_atomic
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.settings import NexusSettings, SettingsError

_ENVIRONMENT: Final = "environment"

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class OtherEnvironmentError(SettingsError):
    """A home was used for another environment before."""


@dataclass(frozen=True)
class StepContext:
    """Context of one step."""

    release: ResolvedRelease
    settings: NexusSettings
    record: ReleaseRecord

    @classmethod
    def load(cls, release: str) -> StepContext:
        """Read the release from its JSON and the settings from the environment.

        Raises:
            DocumentError: The text is no resolved release.
        """
        resolved = parse_document(release, ResolvedRelease, source="release")
        settings = NexusSettings.load()
        return cls(resolved, settings, ReleaseRecord(settings.release_dir(resolved.release_id)))

    @property
    def gitops(self) -> GitOps:
        """The installation's GitOps repository."""
        return GitOps.of(self.settings)


def bind_home(settings: NexusSettings) -> None:
    """Tie a home to its environment with its first release: records, labels and observations tell releases apart by id.

    A release that goes to a second environment with them would be judged by what the first one's users saw.

    Raises:
        OtherEnvironmentError: The home is tied to another environment.
    """
    path = settings.home / _ENVIRONMENT
    if not path.exists():
        write_atomic(path, settings.environment + "\n")
    check_home(settings)


def check_home(settings: NexusSettings) -> None:
    """Refuse a home that is tied to another environment; one that is tied to none is any environment's.

    Raises:
        OtherEnvironmentError: The home is tied to another environment.
    """
    path = settings.home / _ENVIRONMENT
    known = path.read_text().strip() if path.exists() else settings.environment
    if known != settings.environment:
        raise OtherEnvironmentError(
            f"expected NEXUS_ENVIRONMENT={known}, which {settings.home} has released to; got {settings.environment}: "
            "set NEXUS_HOME to a home of its own for each environment, with the same NEXUS_GITOPS_URL"
        )


def read_artifact(path: str, model: type[DocumentT]) -> DocumentT:
    """Read a document that an earlier step wrote as an artifact."""
    return model.model_validate_json(Path(path).read_bytes())


def write_artifact(path: str, document: BaseModel) -> None:
    """Write a document as an artifact, whole or not at all."""
    write_atomic(Path(path), document.model_dump_json(indent=2) + "\n")
