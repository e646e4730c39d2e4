"""A local node for the length of a test, and what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from serving.contracts.node_status import NodeStatus
from serving.environment_seed import seed_environment
from serving.gitops import GitOps
from serving.local import node
from serving.local.processes import processes_of_home
from serving.settings import NexusSettings


def running(settings: NexusSettings) -> Iterator[NexusSettings]:
    """Run a node; when it is stopped, no process of its home is left."""
    seed_environment(GitOps.of(settings), settings.environment)
    try:
        node.up(settings)
        yield settings
    finally:
        node.down(settings)
        assert processes_of_home(settings.home) == []


def found_within(seconds: float, check: Callable[[], Any]) -> Any:
    """Block until a check finds something, and return it.

    Raises:
        AssertionError: It found nothing in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def status_within(seconds: float, settings: NexusSettings) -> NodeStatus:
    """Block until the node has written a status, and return it."""
    found: NodeStatus = found_within(seconds, lambda: node.read_status(settings))
    return found
