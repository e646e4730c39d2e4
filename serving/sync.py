"""Wait for whoever makes the cluster follow git. A step sees only `Syncer`; each profile has its own.

The local profile asks the reconciler of this machine (`LocalSyncer`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from serving.contracts.node_status import Phase
from serving.local import node
from serving.local.errors import EngineError, NodeError
from serving.settings import NexusSettings

_POLL_SECONDS = 0.1
_STARTED: Final = frozenset({Phase.STARTING, Phase.FAILED})
"""An engine was tried; a Pending one was not, and that is no fault of what it would have served."""

Say = Callable[[str], None]


class Syncer(Protocol):
    """Waits until what git says is served."""

    def wait_ready(self, commit: str, services: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until a commit (or a later one) is followed and the services answer.

        Raises:
            EngineError: A service was started and does not answer; the message ends with its last log lines.
            NodeError: Nobody follows the repository, or not in time; what is served is not at fault.
        """

    def wait_gone(self, mine: Callable[[str], bool], kept: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until of the services that `mine` tells only the kept ones are left: drained, stopped, gone.

        Raises:
            NodeError: Some are still there after the time, or nobody follows the repository.
        """


class LocalSyncer:
    """The reconciler of this machine."""

    def __init__(self, settings: NexusSettings) -> None:
        self._settings = settings

    def wait_ready(self, commit: str, services: Sequence[str], timeout_seconds: float, say: Say) -> None:
        """Wait until the node has followed a commit; see `Syncer.wait_ready`."""
        try:
            node.wait_synced(self._settings, commit, services, timeout_seconds, say)
        except EngineError:
            raise
        except NodeError as exc:
            status = node.read_status(self._settings)
            seen = status.services if status else ()
            if any(service.name in services and service.phase in _STARTED for service in seen):
                raise EngineError(str(exc)) from exc
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
