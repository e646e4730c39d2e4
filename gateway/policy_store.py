"""Keeps the snapshot: looks for changed documents, reads them off the event loop, and replaces the snapshot whole.

A document that is refused changes nothing: its reasons are logged once, counted, and shown by /health/ready, and the
last good one stays. Policy folder and endpoints file are separate sources, so a broken route never hides that an engine
left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar
from weakref import ReferenceType, ref

import anyio

from gateway.folder_signature import Signature, signature_of
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.snapshot import ModelRoute, Snapshot
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.endpoints import EndpointDirectory
from serving.contracts.load import DocumentError, Problem, load_document
from serving.contracts.policy_folder import POLICY_FILE, ParseCache, PolicyDocuments, read_folder

_SETTLE_LOOKS: Final = 3
"""Looks for which a folder that is edited in place may stay young before it is read all the same."""

_MAX_LOAD_FRACTION: Final = 0.05
"""Share of the time that looking may take: with very many routes the looks grow rarer."""

_MAX_PAUSE_SECONDS: Final = 1.0
"""Longest time between two looks: what follows a load of many routes, a rollback say, must not wait for many loads."""

_MAX_REASONS: Final = 20

_MANY_ROUTES: Final = 500
"""New routes from which they are left out of collections: fewer are walked in 2 ms."""

ValueT = TypeVar("ValueT")
log = logging.getLogger(__name__)


class Source(Generic[ValueT]):
    """One thing that is read from disk when it changes. Used from one thread at a time."""

    def __init__(self, name: str, path: Path, read: Callable[[], ValueT]) -> None:
        self.name = name
        self.path = path
        self.value: ValueT | None = None
        self.problems: tuple[str, ...] = ()
        self._read = read
        self._seen: Signature | None = None
        self._young_looks = 0

    def look(self) -> bool:
        """Read it if it has changed; True when there is a new value or new problems."""
        now = signature_of(self.path)
        if now.same_as(self._seen):
            return False
        edited_in_place = self._seen is not None and self._seen.real == now.real
        if edited_in_place and now.young and self._young_looks < _SETTLE_LOOKS:
            self._young_looks += 1  # an editor or `rm -r` may be half way; a swapped link is whole at once
            return False
        self._young_looks = 0
        try:
            value = self._read()
        except DocumentError as exc:
            reasons = tuple(str(problem) for problem in exc.problems[:_MAX_REASONS])
            moved = not signature_of(self.path).same_as(now)
            if not moved:
                self._seen = now
            changed = reasons != self.problems and not moved  # when it moved meanwhile, the next look decides
            self.problems = reasons if changed else self.problems
            return changed
        if not signature_of(self.path).same_as(now):
            return False
        self._seen = None if now.young else now
        if value == self.value and not self.problems:
            return False
        self.value, self.problems = value, ()
        return True


AnySource = Source[PolicyDocuments] | Source[EndpointDirectory]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be answered, and everything that is not as it should be.

    `unapplied` are rules that wait for a route: a note, not a fault; a policy may come before the models it is for.
    """

    ready: bool
    reasons: tuple[str, ...]
    revision: str | None
    unapplied: tuple[str, ...] = ()


class _Retired(NamedTuple):
    """A snapshot that requests may still use, and its routes, which outlive it until they are let go of one by one."""

    snapshot: ReferenceType[Snapshot]
    routes: list[ModelRoute]


class PolicyStore:
    """Holds the current snapshot; `run` keeps it current.

    Args:
        policy_dir: Folder of policy.yaml and routes; may be a symlink that is swapped.
        endpoints_file: Where services answer; None when addresses come from the policy's template.
        interval_seconds: How often to look.
        metrics: Where reloads and refusals are counted.
        builder: What makes snapshots, and keeps endpoints' states across them.
        can_limit: Whether there is a Redis; without one a policy with limits is refused rather than not kept.
    """

    def __init__(
        self,
        policy_dir: Path,
        endpoints_file: Path | None,
        *,
        interval_seconds: float,
        metrics: GatewayMetrics,
        builder: SnapshotBuilder | None = None,
        can_limit: bool = True,
    ) -> None:
        cache = ParseCache()
        self.builder = builder if builder is not None else SnapshotBuilder()
        self.snapshot: Snapshot | None = None
        self._retired: list[_Retired] = []
        self.draining = False
        self._interval = interval_seconds
        self._metrics = metrics
        self._policy: Source[PolicyDocuments] = Source(
            "policy", policy_dir, lambda: _enforceable(read_folder(policy_dir, cache), policy_dir, can_limit)
        )
        self._endpoints: Source[EndpointDirectory] | None = None
        if endpoints_file is not None:
            file = endpoints_file
            self._endpoints = Source("endpoints", file, lambda: load_document(file, EndpointDirectory))

    async def refresh(self) -> float:
        """Look once, replace the snapshot if anything changed; returns the seconds that the look took."""
        started = time.monotonic()
        changed, snapshot = await anyio.to_thread.run_sync(self._look)
        for source in changed:
            if source.problems:
                self._metrics.reload_failures(source.name).inc()
                log.error("document refused", extra={"fields": {"source": source.name, "reasons": source.problems}})
        if snapshot is not None:
            if self.snapshot is not None:
                self._retired.append(_Retired(ref(self.snapshot), list(self.snapshot.routes.values())))
            self.snapshot = snapshot
            if self._refused_upstream:
                self._metrics.reload_failures("policy").inc()
            self._metrics.reloaded(snapshot.revision)
            log.info(
                "snapshot replaced", extra={"fields": {"revision": snapshot.revision, "models": len(snapshot.routes)}}
            )
        return time.monotonic() - started

    def _look(self) -> tuple[list[AnySource], Snapshot | None]:
        """Look, off the event loop, and keep the interpreter from stopping all threads for longer than a moment.

        A collection that walks all documents of 10,000 routes holds every request up for 40 to 160 ms. So there is none
        while they are made, and what was made is left out of later ones (documents have no cycles, counting references
        frees them). Freeing them at once takes 20 ms, so the last snapshot's routes are let go of here.
        """
        self._let_go()
        gc.disable()
        try:
            changed, snapshot = self._read()
            if snapshot is not None and self.builder.fresh >= _MANY_ROUTES:
                gc.freeze()
        finally:
            gc.enable()
        return changed, snapshot

    def _let_go(self) -> None:
        """Free the routes of snapshots whose last request has ended, one by one: between two, other threads may run."""
        for retired in self._retired:
            while retired.snapshot() is None and retired.routes:
                retired.routes.pop()
        self._retired = [retired for retired in self._retired if retired.routes]

    def _read(self) -> tuple[list[AnySource], Snapshot | None]:
        sources: list[AnySource] = [self._policy] if self._endpoints is None else [self._policy, self._endpoints]
        changed = [source for source in sources if source.look()]
        documents = self._policy.value
        if documents is None or all(source.problems for source in changed):
            return changed, None
        if self._endpoints is None:
            return changed, self.builder.build(documents, None)
        return changed, self.builder.build(documents, self._endpoints.value or EndpointDirectory())

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            took = 0.0
            try:
                took = await self.refresh()
            except Exception:
                log.exception("policy could not be looked at")
                self._metrics.reload_failures("watch").inc()
            await asyncio.sleep(max(self._interval, min(took / _MAX_LOAD_FRACTION, _MAX_PAUSE_SECONDS)))

    @property
    def _refused_upstream(self) -> tuple[str, ...]:
        """Why documents of this revision are not in the folder; whoever fills it has kept the last good ones there."""
        return self._policy.value.refused[:_MAX_REASONS] if self._policy.value is not None else ()

    @property
    def readiness(self) -> Readiness:
        """Say whether requests can be answered. A refused document leaves a gateway ready that has a good one."""
        reasons: list[str] = ["shutting down"] if self.draining else []
        reasons.extend(f"policy refused: {problem}" for problem in self._policy.problems)
        if self._endpoints is not None:
            reasons.extend(f"endpoints refused: {problem}" for problem in self._endpoints.problems)
        snapshot = self.snapshot
        if snapshot is None:
            return Readiness(False, tuple(reasons) or ("no policy has been read yet",), None)
        reasons.extend(snapshot.absent[:_MAX_REASONS])
        refused = tuple(f"refused: {problem}" for problem in self._refused_upstream)
        unapplied = (*refused, *snapshot.unapplied)[:_MAX_REASONS]
        return Readiness(not self.draining, tuple(reasons), snapshot.revision, unapplied)


def _enforceable(documents: PolicyDocuments, folder: Path, can_limit: bool) -> PolicyDocuments:
    """Return documents that this gateway can keep to.

    Raises:
        DocumentError: The policy limits requests, and there is nowhere to count them.
    """
    if documents.policy.spec.limits.rules and not can_limit:
        text = "expected a gateway with Redis, where limits are counted; this one has none: set NEXUS_GATEWAY_REDIS_URL"
        raise DocumentError([Problem(str(folder / POLICY_FILE), 1, "spec.limits.rules", text)])
    return documents
