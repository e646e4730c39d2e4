"""Nexus: from a data contract to a judged canary. `NexusClient` is what programs import; `nexus` is the command."""

from nexus.client import NexusClient
from nexus.outcome import ReleaseOutcome, ReleaseResult

__all__ = ["NexusClient", "ReleaseOutcome", "ReleaseResult"]
