"""What git says about releases: which transitions are done, which version is stable, who holds a model.

Read only. The transitions themselves stand in `release_state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from serving import layout
from serving.contracts.load import parse_document
from serving.contracts.model_version import ModelVersion
from serving.contracts.route import Route
from serving.gitops import Commit, GitOps, Snapshot

RELEASE_TRAILER = "Nexus-Release"
ENVIRONMENT_TRAILER = "Nexus-Environment"
STEP_TRAILER = "Nexus-Step"
VERDICT_TRAILER = "Nexus-Verdict"
EVIDENCE_TRAILER = "Nexus-Evidence"
WEIGHT_TRAILER = "Nexus-Weight"


class ReleaseStateError(Exception):
    """A transition does not fit the state that git tells. Base of the errors below."""


class ReleaseHeldError(ReleaseStateError):
    """Another release of the model is deployed and not judged yet; `holder` is its id."""

    def __init__(self, release_id: str, model: str, holder: str) -> None:
        self.holder = holder
        super().__init__(
            f"expected {model!r} to be free for {release_id}; {holder} is deployed and not judged yet: finish it by "
            f"running `nexus release` with its spec again, or take it out with `nexus release --abandon` and its spec"
        )


class ReleaseEndedError(ReleaseStateError):
    """The release has already ended another way."""


class NotDeployedError(ReleaseStateError):
    """The release has no candidate in the environment."""


class Step(StrEnum):
    """Transitions of a release; each is one commit."""

    DEPLOYED = "deployed"
    CANARY = "canary"
    HELD = "held"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"


_ENDS = frozenset({Step.PROMOTED, Step.ROLLED_BACK, Step.REJECTED})


@dataclass(frozen=True)
class Transition:
    """One transition; `weight_percent` is the candidate's share of users after it."""

    step: Step
    commit: str
    weight_percent: int
    verdict: str | None
    evidence: str | None
    time: int


@dataclass(frozen=True)
class ReleaseState:
    """Transitions of one release in one environment, oldest first; empty before its first commit there."""

    release_id: str
    transitions: tuple[Transition, ...] = ()

    @property
    def last(self) -> Transition | None:
        """Newest transition."""
        return self.transitions[-1] if self.transitions else None

    @property
    def finished(self) -> bool:
        """Whether the release ended: promoted, rolled back or rejected."""
        return self.last is not None and self.last.step in _ENDS

    @property
    def deployed(self) -> bool:
        """Whether the candidate runs without having been judged."""
        return self.last is not None and not self.finished

    @property
    def weight_percent(self) -> int:
        """The candidate's share of users: 100 once promoted, 0 before the canary and after a rollback."""
        return self.last.weight_percent if self.last else 0

    @property
    def verdict(self) -> str | None:
        """Newest verdict; None before one."""
        return next((t.verdict for t in reversed(self.transitions) if t.verdict), None)

    def commit(self, step: Step, weight_percent: int | None = None) -> str | None:
        """Return the newest commit of a transition (to a weight); None when it has not happened."""
        found = self.newest(step, weight_percent)
        return found.commit if found is not None else None

    def newest(self, step: Step, weight_percent: int | None = None) -> Transition | None:
        """Return the newest transition of a kind (to a weight); None when it has not happened."""
        wanted = (
            t for t in reversed(self.transitions) if t.step is step and weight_percent in (None, t.weight_percent)
        )
        return next(wanted, None)


def read_release(gitops: GitOps, release_id: str, environment: str) -> ReleaseState:
    """Read a release's state in an environment from the newest head."""
    return release_at(gitops.head(), release_id, environment)


def read_version(gitops: GitOps, model: str, environment: str) -> ModelVersion | None:
    """Read what an environment serves as stable; None before the first promotion."""
    return version_at(gitops.head(), model, environment)


def release_at(head: Snapshot, release_id: str, environment: str) -> ReleaseState:
    """Read a release's state in an environment as of one commit; what it did in others does not count."""
    commits = head.log(trailer=(RELEASE_TRAILER, release_id))
    transitions: list[Transition] = []
    for commit in reversed([c for c in commits if c.trailers.get(ENVIRONMENT_TRAILER) == environment]):
        transitions.append(_transition(commit, transitions[-1].weight_percent if transitions else 0))
    return ReleaseState(release_id, tuple(transitions))


def version_at(head: Snapshot, model: str, environment: str) -> ModelVersion | None:
    """Read `version.yaml` as of one commit."""
    path = layout.version_path(model, environment)
    text = head.read(path)
    return parse_document(text, ModelVersion, source=_source(head, path)) if text is not None else None


def route_at(head: Snapshot, model: str, environment: str) -> Route | None:
    """Read a model's route as of one commit."""
    path = layout.route_path(model, environment)
    text = head.read(path)
    return parse_document(text, Route, source=_source(head, path)) if text is not None else None


def services_at(head: Snapshot, model: str, environment: str) -> list[str]:
    """List a model's InferenceServices as of one commit, by name."""
    folder = layout.services_folder(model, environment)
    return [path.rsplit("/", 1)[1].removesuffix(".yaml") for path in head.paths(folder) if path.endswith(".yaml")]


def holder_at(head: Snapshot, model: str, environment: str) -> str | None:
    """Return the id of the release that is deployed and not judged yet; None when the model is free.

    The newest transition that touched the model's folder tells: only deploying and ending a release do. An ending that
    found nothing left to change (a person had reverted the deployment) touches no folder, so it is looked for.
    """
    for commit in head.log(layout.model_folder(model, environment)):
        if STEP_TRAILER in commit.trailers and RELEASE_TRAILER in commit.trailers:
            holder = commit.trailers[RELEASE_TRAILER]
            deployed = commit.trailers[STEP_TRAILER] == Step.DEPLOYED
            return holder if deployed and not release_at(head, holder, environment).finished else None
    return None


def _transition(commit: Commit, weight_before: int) -> Transition:
    step = Step(commit.trailers[STEP_TRAILER])
    weight = {Step.PROMOTED: 100, Step.HELD: weight_before, Step.CANARY: int(commit.trailers.get(WEIGHT_TRAILER, "0"))}
    return Transition(
        step=step,
        commit=commit.sha,
        weight_percent=weight.get(step, 0),
        verdict=commit.trailers.get(VERDICT_TRAILER),
        evidence=commit.trailers.get(EVIDENCE_TRAILER),
        time=commit.time,
    )


def _source(head: Snapshot, path: str) -> str:
    return f"{path}@{(head.commit or 'empty')[:12]}"
