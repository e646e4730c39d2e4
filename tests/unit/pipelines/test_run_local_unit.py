import pytest

from pipelines import run_local
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.record import ReleaseRecord
from serving.release_history import ReleaseState
from serving.settings import NexusSettings
from serving.step_context import StepContext
from tests.fakes.releases import MODEL, make_release


@pytest.fixture
def step(tmp_path, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    """A release that git does not know, in a repository that nobody reads."""
    release = make_release()
    monkeypatch.setattr(StepContext, "gitops", None)
    monkeypatch.setattr(run_local.release_state, "read_release", lambda *_: ReleaseState(release.release_id))
    return StepContext(release, NexusSettings(home=tmp_path), ReleaseRecord(tmp_path / "record"))


def conclude(step: StepContext, release_id: str) -> Conclusion:
    conclusion = Conclusion(
        release_id=release_id,
        model=MODEL,
        outcome=ReleaseOutcome.PROMOTED,
        reason="safe",
        commit="c",
        evidence="e",
        registry_version="1",
        stable_service=None,
    )
    step.record.publish("conclusion", conclusion)
    return conclusion


def test_success_without_a_conclusion_is_a_failure(step: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """kfp's word is not enough: a branch that it skipped silently must not look like a release."""
    conclude(step, step.release.release_id)
    monkeypatch.setattr(run_local, "_run_pipeline", lambda _: None)
    with pytest.raises(run_local.PipelineError, match="reported success"):
        run_local.run(step)


def test_conclusion_of_another_release_does_not_count(step: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this release's own conclusion ends it."""
    monkeypatch.setattr(run_local, "_run_pipeline", lambda _: conclude(step, make_release(9).release_id))
    with pytest.raises(run_local.PipelineError):
        run_local.run(step)


def test_conclusion_ends_the_run(step: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conclusion that this run wrote is returned."""
    monkeypatch.setattr(run_local, "_run_pipeline", lambda _: conclude(step, step.release.release_id))
    assert run_local.run(step).outcome is ReleaseOutcome.PROMOTED


@pytest.mark.parametrize(("text", "plain"), [("", ""), ("a", "a"), ("x \x1b[95m'p'\x1b[0m failed", "x 'p' failed")])
def test_colours_are_dropped_from_messages(text: str, plain: str) -> None:
    """A log line and an event are plain text."""
    assert run_local._plain(text) == plain
