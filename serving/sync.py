"""Wait for whoever makes the cluster follow git. A step sees only `Syncer`; each profile has its own.

The local profile asks the reconciler of this machine (`LocalSyncer`). The cluster profile's, which asks Argo CD, does
not exist yet, and a step that needs it says so before it changes anything (`open_syncer`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from serving.local import node
from serving.local.errors import EngineError, NodeError
from serving.settings import NexusSettings, Profile

_POLL_SECONDS: Final = 0.1

Say = Callable[[str], None]


class ProfileError(Exception):
    """A step was asked to run in a profile that it does not know."""


@dataclass(frozen=True)
class EngineFailure:
    """How a service's own engine failed to answer, and the last lines it wrote."""

    reason: str
    last_words: tuple[str, ...]


class NotServedError(EngineError):
    """Engines were started and failed by themselves: they exited, or ran for their whole time without an answer."""

    def __init__(self, failures: Mapping[str, EngineFailure]) -> None:
        self.failures = dict(failures)
        lines = [
            "\n    ".join([f"{name}: {failure.reason}", *failure.last_words]) for name, failure in failures.items()
        ]
        super().__init__("\n".join(lines))


class Syncer(Protocol):
    """Waits until what git says is served."""

    def wait_ready(self, commit: str, services: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until a commit (or a later one) is followed and the services answer.

        Raises:
            NotServedError: Engines of services were started and failed; names each with its last log lines.
            NodeError: Nobody follows the repository, or not in time; what is served is not at fault.
        """

    def wait_gone(self, mine: Callable[[str], bool], kept: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until of the services that `mine` tells only the kept ones are left: drained, stopped, gone.

        Raises:
            NodeError: Some are still there after the time, or nobody follows the repository.
        """


def open_syncer(settings: NexusSettings) -> Syncer:
    """Return the syncer of the profile.

    Raises:
        ProfileError: The profile has none yet.
    """
    require_local(settings)
    return LocalSyncer(settings)


def require_local(settings: NexusSettings) -> None:
    """Refuse a step that waits for engines or asks the gateway outside the local profile.

    Raises:
        ProfileError: Says what the profile lacks.
    """
    if settings.profile is not Profile.LOCAL:
        raise ProfileError(
            f"expected NEXUS_PROFILE=local, the only profile that can follow a deployment so far; got "
            f"{settings.profile.value}: it needs a syncer for Argo CD, a reachable gateway and a shared release record "
            "(docs/architecture.md, section Cluster profile); run this release with `nexus release` on a local node"
        )


class LocalSyncer:
    """The reconciler of this machine."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings

    def wait_ready(self, commit: str, services: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until the node has followed a commit; see `Syncer.wait_ready`."""
        try:
            node.wait_synced(self._settings, commit, services, timeout_seconds, say)
        except NodeError as exc:
            status = node.read_status(self._settings)
            failures = {
                service.name: EngineFailure(service.engine_failure, service.log_tail)
                for service in (status.services if status else ())
                if service.name in services and service.engine_failure is not None
            }
            if failures:
                raise NotServedError(failures) from exc
            raise

    def wait_gone(self, mine: Callable[[str], bool], kept: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until the losing engines are gone; see `Syncer.wait_gone`."""
        deadline = time.monotonic() + timeout_seconds
        said: list[str] = []
        while True:
            status = node.read_status(self._settings)
            losing = [s for s in status.services if mine(s.name) and s.name not in kept] if status else None
            left = None if losing is None else [f"{service.name} ({service.phase})" for service in losing]
            if left == []:
                return
            if left and left != said:
                said = left
                say(f"draining {', '.join(left)}")
            if time.monotonic() > deadline:
                found = "no reconciler runs" if left is None else f"still there: {', '.join(left)}"
                raise NodeError(
                    f"expected only {list(kept)} to be left within {timeout_seconds:g} s; {found}: run it again"
                )
            time.sleep(_POLL_SECONDS)
