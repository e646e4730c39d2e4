"""The spine of a release on real git and real MLflow: register, deploy, shift, conclude; nothing is served.

`before_effect` kills a process, or fills its disk, just before its n-th effect on disk that somebody else can see.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.conclude_release.logic import conclude, finish
from components.deploy_kserve.logic import deploy
from components.register_model.figures import Reports
from components.register_model.logic import register
from serving import release_state
from serving.contracts.canary_verdict import Decision
from serving.contracts.conclusion import Conclusion
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.local.errors import NodeError
from serving.record import ReleaseRecord
from serving.release_documents import service_name
from serving.settings import NexusSettings
from serving.sync import EngineFailure, NotServedError
from tests.fakes.releases import make_registration, make_release, make_reports, make_verdict, write_weights

STABLE = make_release(1)
RELEASE = make_release(2)
WORDS = ("loading weights", "ValueError: last words")
POLICY = "apiVersion: nexus/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: local}\nspec: {}\n"


class FakeSyncer:
    """A node that follows every commit at once; services whose name fits `broken` have engines that exit."""

    def __init__(self, error: Exception | None = None, broken: Callable[[str], bool] = lambda _: False) -> None:
        self.error = error
        self.broken = broken
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def wait_ready(
        self, commit: str, services: Sequence[str], timeout_seconds: float, say: Callable[[str], None]
    ) -> None:
        self.asked.append(("ready", tuple(services)))
        if self.error is not None:
            raise self.error
        failures = {
            name: EngineFailure("the engine exited with code 3", WORDS) for name in services if self.broken(name)
        }
        if failures:
            raise NotServedError(failures)

    def wait_gone(
        self, mine: Callable[[str], bool], kept: Sequence[str], timeout_seconds: float, say: Callable[[str], None]
    ) -> None:
        self.asked.append(("gone", tuple(kept)))


def candidate_fails() -> FakeSyncer:
    """Only the candidate's engine exits; a candidate has no `-b` and is not the stable service."""
    stable = service_name(STABLE, make_registration(STABLE).weights_digest)
    return FakeSyncer(broken=lambda name: not name.startswith(stable))


def baseline_fails() -> FakeSyncer:
    """Every engine that is started anew exits: the machine is at fault."""
    return FakeSyncer(broken=lambda name: name != service_name(STABLE, make_registration(STABLE).weights_digest))


def node_is_down() -> FakeSyncer:
    return FakeSyncer(NodeError("no reconciler runs"))


def prepare_home(home: Path, *, stable: bool = True) -> NexusSettings:
    """Make a home with a seeded repository, weights of the candidate, and a stable version to compare with."""
    settings = NexusSettings(home=home)
    gitops = GitOps.of(settings)
    release_state.seed_environment(gitops, settings.environment, POLICY)
    if stable:
        registration = make_registration(STABLE)
        release_state.deploy_candidate(gitops, STABLE, registration, settings.environment)
        release_state.promote(
            gitops, STABLE, registration, environment=settings.environment, verdict="promote", evidence="first"
        )
    write_weights(home / "candidates" / "bf16")
    return settings


def run_spine(
    settings: NexusSettings,
    decision: Decision,
    *,
    release: ResolvedRelease = RELEASE,
    weights: Sequence[int] = (5, 25, 50),
    syncer: FakeSyncer | None = None,
) -> Conclusion:
    """Do what the pipeline does from registration on; an ending that git knows is only finished."""
    gitops = GitOps.of(settings)
    record = ReleaseRecord(settings.release_dir(release.release_id))
    syncer = syncer or FakeSyncer()
    state = release_state.read_release(gitops, release.release_id, settings.environment)
    if state.finished:
        return finish(release, settings=settings, record=record, syncer=syncer)
    digest = write_weights(settings.home / "candidates" / "bf16")
    reports = Reports(*make_reports(digest))
    registration = register(release, settings.home / "candidates", reports, settings=settings, record=record)
    deploy(release, registration, settings=settings, record=record, syncer=syncer)
    for weight in weights:
        if weight > state.weight_percent:
            release_state.shift_weight(
                gitops,
                release.release_id,
                model=release.spec.model,
                environment=settings.environment,
                weight=weight,
            )
    verdict = make_verdict(release, decision)
    record.publish("verdict", verdict)
    return conclude(release, registration, verdict, settings=settings, record=record, syncer=syncer)


def kill() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    """Fail as every write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def before_effect(number: int, fault: Callable[[], None]) -> Callable[[], int]:
    """Patch this process so that a fault meets it from its n-th effect on; return a counter of effects.

    Effects: moving git's branch, every writing call to MLflow, every rename of a file or folder into place.
    """
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - 4 s that only killers need

    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if 0 < number <= count:
                fault()
            return call(*args, **kwargs)

        return wrapper

    for name in (
        "create_experiment",
        "create_run",
        "log_batch",
        "log_text",
        "create_registered_model",
        "create_model_version",
        "set_terminated",
        "set_model_version_tag",
        "set_registered_model_alias",
        "delete_registered_model_alias",
    ):
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    original = GitOps._push
    GitOps._push = counted(original)  # type: ignore[method-assign]
    return lambda: count
