import pytest

from serving.contracts.node_status import NodeStatus, Phase, ServiceStatus
from serving.local.errors import EngineError, NodeError
from serving.settings import NexusSettings
from serving.sync import LocalSyncer


class FakeNode:
    """The node's module: a list of statuses, the last one for ever, and what waiting raises."""

    def __init__(self, *statuses: dict[str, Phase] | None, error: Exception | None = None) -> None:
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
        services = tuple(ServiceStatus(name=name, spec_digest="d", phase=phase) for name, phase in phases.items())
        return NodeStatus(commit="c", synced_at=0, reconciler_pid=1, services=services)


@pytest.fixture
def syncer(monkeypatch: pytest.MonkeyPatch, tmp_path):
    def make(*statuses: dict[str, Phase] | None, error: Exception | None = None) -> LocalSyncer:
        monkeypatch.setattr("serving.sync.node", FakeNode(*statuses, error=error))
        return LocalSyncer(NexusSettings(home=tmp_path))

    return make


@pytest.mark.parametrize(
    ("status", "engine_at_fault"),
    [
        (None, False),
        ({}, False),
        ({"other": Phase.FAILED}, False),
        ({"mine": Phase.PENDING}, False),
        ({"mine": Phase.READY}, False),
        ({"mine": Phase.STARTING}, True),
        ({"mine": Phase.FAILED}, True),
    ],
)
def test_only_an_engine_that_was_tried_is_at_fault(syncer, status: dict[str, Phase] | None, engine_at_fault) -> None:
    """A node that is down, behind, or busy with others must never cost a candidate its release."""
    with pytest.raises(NodeError, match="too late") as error:
        syncer(status, error=NodeError("too late")).wait_ready("c", ["mine"], 1, lambda _: None)
    assert isinstance(error.value, EngineError) is engine_at_fault


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
