"""What can go wrong on a local node.

NodeError
+-- EngineError            an engine did not start, died, or never answered
    +-- WeightsError       its folder cannot be served: missing, truncated or unreadable files
    +-- NeverReadyError    it ran for its whole time limit without an answer
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.weights_folder import WeightsFolderError


class NodeError(Exception):
    """The local node cannot do what was asked."""


class EngineError(NodeError):
    """An engine did not start, died, or never answered; the message ends with its last log lines."""


class WeightsError(EngineError):
    """A model folder cannot be served; found before anything is started."""


class NeverReadyError(EngineError):
    """An engine ran for its whole time limit without an answer; a second try would only take as long."""


@contextmanager
def weights_errors() -> Iterator[None]:
    """Turn a folder that is not whole into `WeightsError`."""
    try:
        yield
    except WeightsFolderError as exc:
        raise WeightsError(str(exc)) from exc
