import pytest

from serving.contracts.node_status import NodeStatus, Phase, ServiceStatus
from serving.local.errors import NodeError
from serving.settings import NexusSettings, Profile
from serving.sync import LocalSyncer, NotServedError, ProfileError, open_syncer


def service(name: str, phase: Phase) -> ServiceStatus:
    return ServiceStatus(name=name, spec_digest="d", phase=phase)


def failed(name: str, phase: Phase) -> ServiceStatus:
    return service(name, phase).model_copy(update={"engine_failure": "exited with code 1", "log_tail": ("last words",)})


Services = dict[str, Phase] | tuple[ServiceStatus, ...] | None


class FakeNode:
    """The node's module: a list of statuses, the last one for ever, and what waiting raises."""

    def __init__(self, *statuses: Services, error: Exception | None = None) -> None:
        self.statuses = list(statuses)
        self.error = error
        self.waited: list[tuple[object, ...]] = []

    def wait_synced(self, *asked: object) -> None:
        self.waited.append(asked)
        if self.error:
            raise self.error

    def read_status(self, _: NexusSettings) -> NodeStatus | None:
        phases = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if phases is None:
            return None
        services = phases if isinstance(phases, tuple) else tuple(service(*one) for one in phases.items())
        return NodeStatus(commit="c", synced_at=0, reconciler_pid=1, services=services)


@pytest.fixture
def syncer(monkeypatch: pytest.MonkeyPatch, tmp_path):
    def make(*statuses: Services, error: Exception | None = None) -> LocalSyncer:
        monkeypatch.setattr("serving.sync.node", FakeNode(*statuses, error=error))
        return LocalSyncer(NexusSettings(home=tmp_path))

    return make


@pytest.mark.parametrize(
    "status", [None, {}, {"mine": Phase.PENDING}, {"mine": Phase.STARTING}, {"mine": Phase.FAILED}]
)
def test_only_an_engine_that_failed_by_itself_is_at_fault(syncer, status: dict[str, Phase] | None) -> None:
    """A node that is down, behind, or busy, and weights that were lost, must never cost a candidate its release."""
    with pytest.raises(NodeError, match="too late") as error:
        syncer(status, error=NodeError("too late")).wait_ready("c", ["mine"], 1, lambda _: None)
    assert not isinstance(error.value, NotServedError)


def test_engines_that_failed_are_named_with_their_last_words(syncer) -> None:
    """Those that were waited for, each with how it failed; another model's engine is no concern of ours."""
    services = (failed("mine", Phase.PENDING), failed("other", Phase.FAILED))
    with pytest.raises(NotServedError, match=r"mine: exited with code 1\n    last words") as error:
        syncer(services, error=NodeError("too late")).wait_ready("c", ["mine"], 1, lambda _: None)
    assert set(error.value.failures) == {"mine"}


def test_other_profiles_have_no_syncer_yet(tmp_path) -> None:
    """The refusal says what was expected, what came, and where it is written what the profile needs."""
    with pytest.raises(ProfileError, match=r"NEXUS_PROFILE=local.*got cluster.*docs/architecture.md"):
        open_syncer(NexusSettings(home=tmp_path, profile=Profile.CLUSTER))
    assert isinstance(open_syncer(NexusSettings(home=tmp_path)), LocalSyncer)


def test_waiting_for_ready_services_returns(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """The node is asked once, for the commit, the services, the time and whom to tell, and nothing is raised."""
    said: list[str] = []
    settings = NexusSettings(home=tmp_path)
    followed = FakeNode({"mine": Phase.READY})
    monkeypatch.setattr("serving.sync.node", followed)
    LocalSyncer(settings).wait_ready("c", ["mine"], 7, said.append)
    assert followed.waited == [(settings, "c", ["mine"], 7, said.append)]


def test_losers_are_waited_for_and_named(syncer) -> None:
    """The wait ends when only the kept one of ours is left; others' services do not matter."""
    said: list[str] = []
    statuses = [
        {"m-1": Phase.READY, "m-2": Phase.DRAINING, "x": Phase.DRAINING},
        {"m-1": Phase.READY, "x": Phase.READY},
    ]
    syncer(*statuses).wait_gone(lambda name: name.startswith("m-"), ["m-1"], 5, said.append)
    assert said == ["draining m-2 (Draining)"]


@pytest.mark.parametrize(("status", "words"), [(None, "no reconciler runs"), ({"m-2": Phase.READY}, "m-2")])
def test_losers_that_stay_are_an_error_within_the_time(syncer, status, words: str) -> None:
    """The error says what is left, or that nobody knows."""
    with pytest.raises(NodeError, match=words):
        syncer(status).wait_gone(lambda _: True, ["m-1"], 0, lambda _: None)
