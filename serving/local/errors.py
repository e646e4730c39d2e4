"""What can go wrong on a local node.

NodeError
+-- EngineError            an engine did not start, died, or never answered
    +-- WeightsError       its folder cannot be served: missing, truncated or unreadable files
    +-- NeverReadyError    it ran for its whole time limit without an answer
    +-- EngineExitedError  it ended by itself before it answered
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from serving.weights_folder import WeightsFolderError

_SIGNALS_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class NodeError(Exception):
    """The local node cannot do what was asked."""


class EngineError(NodeError):
    """An engine did not start, died, or never answered; the message ends with its last log lines."""


class WeightsError(EngineError):
    """A model folder cannot be served; found before anything is started."""


class NeverReadyError(EngineError):
    """An engine ran for its whole time limit without an answer; a second try would only take as long."""


class EngineExitedError(EngineError):
    """An engine ended by itself before it answered."""


def exit_error(code: int | None) -> EngineError:
    """Say how an engine ended that had not answered yet.

    Args:
        code: Its exit code, minus the signal's number where one ended it; None when nobody saw it.

    Returns:
        `EngineExitedError` where the engine itself is the cause. A signal from outside (a person, the kernel short of
        memory) or an end that nobody saw says nothing of what it would have served.
    """
    if code is None:
        return EngineError("the engine ended before it answered; its exit code is not known")
    if -code in _SIGNALS_FROM_OUTSIDE:
        return EngineError(f"the engine was ended by {signal.Signals(-code).name} before it answered; see free memory")
    how = f"exited with code {code}" if code >= 0 else f"died of {signal.Signals(-code).name}"
    return EngineExitedError(f"the engine {how} before it answered")


@contextmanager
def weights_errors() -> Iterator[None]:
    """Turn a folder that is not whole into `WeightsError`."""
    try:
        yield
    except WeightsFolderError as exc:
        raise WeightsError(str(exc)) from exc
