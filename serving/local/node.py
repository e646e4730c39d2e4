"""The local node as a whole: bring it up, take it down, read its status, wait until it has followed a commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from serving.contracts.node_status import NodeStatus, Phase, ServiceStatus
from serving.git_command import GitError
from serving.gitops import GitOps
from serving.layout import services_glob
from serving.local import log_files
from serving.local.desired_state import read_desired
from serving.local.errors import NodeError
from serving.local.gateway_process import PORT_TAKEN
from serving.local.node_files import NodeFiles
from serving.local.parent_client import ensure_parent
from serving.local.reconciler_client import ensure_reconciler, reconciler_log, reconciler_runs
from serving.local.shutdown import shut_down
from serving.settings import NexusSettings

__all__ = ["NodeError", "down", "keep", "read_status", "up", "wait_served", "wait_synced"]

UP_TIMEOUT_SECONDS = 90.0  # reconciler and gateway import within 5 s on an idle machine
_POLL_SECONDS = 0.1
_SAY_SECONDS = 5.0
_REDIS_SECONDS = 10.0  # Redis starts in milliseconds; a node without it serves all that needs no keys and no limits
_REFUSED_SECONDS = 5.0  # how long the gateway's port may be taken before `up` gives up


def _quiet(_: str) -> None:
    """Say nothing."""


def up(settings: NexusSettings, say: Callable[[str], None] = _quiet) -> NodeStatus:
    """Have engine parent, reconciler, Redis and gateway running; does nothing to those that are.

    Args:
        settings: Settings of this home.
        say: Told what is being waited for.

    Returns:
        The status, with a gateway that answers by the head of the GitOps repository. A Redis that does not come up
        within seconds is one of its problems.

    Raises:
        NodeError: Something did not come up in time, with its last log lines.
    """
    _repository(settings)
    ensure_reconciler(settings)
    ensure_parent(settings, say)
    deadline = time.monotonic() + UP_TIMEOUT_SECONDS
    redis_deadline = time.monotonic() + _REDIS_SECONDS
    refused: float | None = None
    say("waiting for the gateway")
    while True:
        ensure_reconciler(settings)
        status = read_status(settings)
        now = time.monotonic()
        if status is not None and status.gateway_revision is not None and (_has_redis(status) or now > redis_deadline):
            return status
        problems = [problem for problem in status.problems if problem.startswith("gateway: ")] if status else []
        taken = any(problem.startswith(f"gateway: {PORT_TAKEN}") for problem in problems)
        refused = (refused or now) if taken else None
        if now > deadline or (refused is not None and now - refused > _REFUSED_SECONDS):
            reason = "\n".join(problems) or f"expected the gateway to answer within {UP_TIMEOUT_SECONDS:g} s"
            raise NodeError(log_files.with_tail(reason, reconciler_log(settings)))
        time.sleep(_POLL_SECONDS)


def _has_redis(status: NodeStatus) -> bool:
    return status.redis is None or status.redis.ready


def keep(settings: NexusSettings) -> None:
    """Have a reconciler running, which has everything else running; costs next to nothing where it does.

    Raises:
        NodeError: It ended while starting, with its last log lines.
    """
    ensure_reconciler(settings)


def down(settings: NexusSettings, say: Callable[[str], None] = _quiet) -> int:
    """Stop every process of this home: by record first, then whatever else carries its name; nothing is left over.

    Returns:
        How many processes ran.

    Raises:
        NodeError: A process or a port is still there after all.
    """
    return shut_down(settings, say)


def read_status(settings: NexusSettings) -> NodeStatus | None:
    """Return the newest status; None when no reconciler runs, for then nobody vouches for it."""
    if not reconciler_runs(settings):
        return None
    status = NodeFiles(settings.run_dir).read_status()
    return status if status is not None and reconciler_runs(settings) == status.reconciler_pid else None


def wait_served(settings: NexusSettings, say: Callable[[str], None] = _quiet) -> NodeStatus:
    """Wait until the gateway answers by the head of the repository, and every engine that it wants has answered.

    Raises:
        NodeError: An engine failed, its document is refused, or the time is over: that of all engines together, for a
            small machine starts one after the other. With reasons and last log lines; the node goes on trying.
    """
    head = _repository(settings).head()
    if head.commit is None:
        raise NodeError(f"expected a commit in {settings.gitops}; it is empty: run `nexus up`")
    services = read_desired(head, settings.environment).services.values()
    seconds = UP_TIMEOUT_SECONDS + sum(service.engine.ready_timeout_seconds for service in services)
    status = wait_synced(settings, head.commit, None, seconds, say)
    pattern = services_glob(settings.environment)
    refused = [problem for problem in status.problems if PurePosixPath(problem.partition(":")[0]).match(pattern)]
    if refused:
        raise NodeError(
            "\n".join(["expected an engine for each service in git; these are refused, correct them:", *refused])
        )
    return status


def wait_synced(
    settings: NexusSettings,
    commit: str,
    services: Sequence[str] | None,
    timeout_seconds: float,
    say: Callable[[str], None] = _quiet,
) -> NodeStatus:
    """Wait until the node has followed a commit: applied, answered by the gateway, and the named services Ready.

    A service that failed earlier is tried once more; a dead reconciler is started again.

    Args:
        settings: Settings of this home.
        commit: Commit that must be applied, itself or by a later one.
        services: InferenceServices that must be Ready; None for all that the applied commit wants.
        timeout_seconds: Limit on the wait.
        say: Told whenever a service's state changes, and every few seconds what is still waited for.

    Raises:
        NodeError: A service failed, or the time is over; with reasons and last log lines.
    """
    begin = said = time.monotonic()
    wait = _Wait(settings, commit, services, say)
    while True:
        ensure_reconciler(settings)
        status = read_status(settings)
        if status is not None and wait.over(status):
            return status
        now = time.monotonic()
        if now - begin > timeout_seconds:
            raise NodeError(wait.describe(status, timeout_seconds))
        if now - said >= _SAY_SECONDS:
            said = now
            say(f"waiting for {wait.missing(status)}, {now - begin:.0f} of at most {timeout_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


class _Wait:
    """What is being waited for, and what has been said about it."""

    def __init__(
        self, settings: NexusSettings, commit: str, services: Sequence[str] | None, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._repository = _repository(settings)
        self._files = NodeFiles(settings.run_dir)
        self._commit = commit
        self._services = services
        self._say = say
        self._said: dict[str, str] = {}
        self._applied: set[str] = set()
        status = read_status(settings)
        self._files.ask_retry(service.name for service in self._awaited(status) if service.phase is Phase.FAILED)

    def over(self, status: NodeStatus) -> bool:
        """Return whether all has come; raises NodeError when a service has failed."""
        found = {service.name: service for service in self._awaited(status)}
        for service in found.values():
            self._tell(service)
        if not self._is_applied(status.commit):
            return False
        failed = [service for service in found.values() if service.phase is Phase.FAILED]
        if failed and not self._files.retry_waits(found):
            raise NodeError("\n".join(self._failure(service) for service in failed))
        ready = found.keys() >= set(self._services or ()) and all(s.phase is Phase.READY for s in found.values())
        unheard = any(
            name in problem for problem in status.problems if problem.startswith("gateway: ") for name in found
        )
        return ready and status.gateway_current and not unheard and self._is_applied(status.gateway_revision)

    def describe(self, status: NodeStatus | None, seconds: float) -> str:
        """Say what was missing when the time was over."""
        names = self._names(status)
        head = f"expected commit {self._commit[:12]} applied and {names or 'no service'} Ready in {seconds:g} s"
        if status is None:
            return log_files.with_tail(f"{head}; no reconciler runs", reconciler_log(self._settings))
        lines = [f"{head}; applied {(status.commit or 'nothing')[:12]}, gateway {status.gateway_revision or 'silent'}"]
        lines += [self._failure(service) for service in status.services if service.phase is not Phase.READY]
        absent = set(names) - {service.name for service in status.services}
        lines += [f"{name}: no such InferenceService in the repository" for name in sorted(absent)]
        return "\n".join([*lines, *status.problems])

    def missing(self, status: NodeStatus | None) -> str:
        """Say what has not come yet, in a few words."""
        if status is None:
            return "the reconciler"
        ready = {service.name for service in self._awaited(status) if service.phase is Phase.READY}
        return ", ".join(name for name in self._names(status) if name not in ready) or "the gateway"

    def _awaited(self, status: NodeStatus | None) -> list[ServiceStatus]:
        """Give what is known of the services that must be Ready."""
        services = status.services if status is not None else ()
        return [s for s in services if (s.wanted if self._services is None else s.name in self._services)]

    def _names(self, status: NodeStatus | None) -> list[str]:
        if self._services is not None:
            return list(self._services)
        return [service.name for service in self._awaited(status)]

    def _is_applied(self, commit: str | None) -> bool:
        if commit is None or commit in self._applied or commit == self._commit:
            return commit is not None
        try:
            self._repository.git("merge-base", "--is-ancestor", self._commit, commit)
        except GitError:
            return False
        self._applied.add(commit)
        return True

    def _tell(self, service: ServiceStatus) -> None:
        text = f"{service.name}: {service.phase}" + (f" ({service.message})" if service.message else "")
        if self._said.get(service.name) != text:
            self._said[service.name] = text
            self._say(text)

    def _failure(self, service: ServiceStatus) -> str:
        """Say what a service is about, with its engine's last words: those it failed with, or so far."""
        words = service.log_tail
        if service.phase is Phase.STARTING:
            words = log_files.tail(log_files.engine_log(self._settings.log_dir, service.name))
        return "\n".join([f"{service.name}: {service.phase}: {service.message}", *(f"    {line}" for line in words)])


def _repository(settings: NexusSettings) -> GitOps:
    try:
        return GitOps.of(settings)
    except (GitError, OSError) as exc:
        raise NodeError(f"the GitOps repository {settings.gitops} cannot be opened: {exc}") from exc
