"""Node status: what the local reconciler has made of the GitOps repository, and where each service answers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from serving.contracts.base import StrictModel


class Phase(StrEnum):
    """Life of one service."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    FAILED = "Failed"
    DRAINING = "Draining"


class ServiceStatus(StrictModel):
    """One InferenceService on this machine. Ready means that a real completion was answered."""

    name: str
    spec_digest: str
    phase: Phase
    url: str | None = None
    pid: int | None = None
    message: str = ""
    log_tail: tuple[str, ...] = ()
    engine_failure: str | None = Field(
        default=None,
        description="How its engine failed to answer, where the engine itself is the cause: it exited, or ran for its "
        "whole time limit. None otherwise: weights, disk, machine or node are.",
    )
    wanted: bool = Field(default=True, description="Git wants it; otherwise it is on its way out.")
    not_applied: tuple[str, ...] = Field(
        default=(), description="What the document asks for that one machine cannot give."
    )
    started_at: float | None = None
    ready_at: float | None = None


class ProcessStatus(StrictModel):
    """A process that this node runs for its gateway."""

    pid: int | None
    ready: bool = Field(description="It answers.")


class NodeStatus(StrictModel):
    """Written whole and atomically to `run/status.json` after every round of the reconciler."""

    commit: str | None = Field(description="Head that the last round applied; a later head is not seen yet.")
    synced_at: float
    reconciler_pid: int
    gateway_url: str | None = None
    gateway_revision: str | None = Field(
        default=None, description="Commit whose policy and routes the gateway answers by."
    )
    gateway_current: bool = Field(
        default=False,
        description="The gateway answers by the documents of `commit` and by the addresses of `services`.",
    )
    redis: ProcessStatus | None = Field(default=None, description="None where the settings name another Redis.")
    adapter: ProcessStatus | None = Field(
        default=None,
        description="None while no route names a provider's model, where there is no document of providers, or where "
        "the settings name another adapter.",
    )
    services: tuple[ServiceStatus, ...] = ()
    problems: tuple[str, ...] = Field(default=(), description="Documents that were refused; the last good ones stay.")
