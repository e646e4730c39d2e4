"""The whole pipeline under kfp's local runner; heavy steps are fakes (`tests/fakes/steps`), the spine is real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nexus.outcome import EXIT_CODES, read_outcome
from serving import release_state
from serving.contracts.conclusion import Conclusion
from serving.contracts.progress import EventKind
from serving.contracts.release_spec import ResolvedRelease
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.registry import Registry
from serving.settings import NexusSettings
from tests.fakes.spine import RELEASE, WORDS, prepare_home

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
]
FAKES = Path(__file__).resolve().parents[2] / "fakes" / "steps"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a stable version and an empty registry, made once."""
    home = tmp_path_factory.mktemp("template") / "home"
    assert Registry(prepare_home(home))._client is not None
    return home


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> NexusSettings:
    return NexusSettings(home=shutil.copytree(template, tmp_path / "home"))


def start(settings: NexusSettings, plan: dict, release: ResolvedRelease = RELEASE) -> subprocess.Popen:
    folder = settings.release_dir(release.release_id)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "release.json"
    path.write_text(release.model_dump_json())
    env = {
        **os.environ,  # noqa: TID251 - the child needs this process's PATH
        "NEXUS_HOME": str(settings.home),
        "PYTHONPATH": str(FAKES),
        "FAKE_STEPS": json.dumps(plan),
        "PYTHONWARNINGS": "default",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.run_local", str(path)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(settings: NexusSettings, **plan) -> tuple[int, str]:
    process = start(settings, plan)
    output, _ = process.communicate(timeout=250)
    return process.returncode, output.decode()


def conclusion(settings: NexusSettings) -> Conclusion | None:
    return ReleaseRecord(settings.release_dir(RELEASE.release_id)).read("conclusion", Conclusion)


def steps(settings: NexusSettings) -> list[str]:
    state = release_state.read_release(GitOps.of(settings), RELEASE.release_id, settings.environment)
    return [transition.step for transition in state.transitions]


def failures(settings: NexusSettings) -> list[tuple[str, str]]:
    events = ReleaseRecord(settings.release_dir(RELEASE.release_id)).events()
    return [(event.step, event.message) for event in events if event.kind is EventKind.FAILED]


def test_release_runs_to_promotion_and_then_changes_nothing(settings: NexusSettings) -> None:
    """Each step feeds the next one, the report is made, the caller's output stays quiet, and a second run is idle."""
    code, output = run(settings)
    log = (settings.release_dir(RELEASE.release_id) / "pipeline.log").read_text()
    assert code == 0, output + log
    assert conclusion(settings).outcome == "promoted"
    assert steps(settings) == ["deployed", "canary", "canary", "canary", "promoted"]
    assert "Executing task" not in output
    assert "Executing task" in log
    assert (settings.release_dir(RELEASE.release_id) / "report.html").exists()
    head = GitOps.of(settings).head().commit
    assert run(settings)[0] == 0
    assert GitOps.of(settings).head().commit == head


def test_failed_gates_take_the_other_branch(settings: NexusSettings) -> None:
    """A candidate that fails offline is a verdict, not an error: nothing is registered or deployed."""
    code, output = run(settings, passed=False)
    assert code == 0, output
    assert conclusion(settings).outcome == "rejected"
    assert "too slow" in conclusion(settings).reason
    assert steps(settings) == ["rejected"]
    assert not Registry(settings)._client.search_registered_models()


@pytest.mark.parametrize("step", ["train_model", "analyze_canary"])
def test_failing_step_fails_the_run_and_still_makes_the_report(settings: NexusSettings, step: str) -> None:
    """An infrastructure error is no verdict, outside the branch and in it; nothing after it runs."""
    code, output = run(settings, fail=step)
    assert code == 1
    assert conclusion(settings) is None
    assert failures(settings) == [(step, "told to fail")]
    assert (settings.release_dir(RELEASE.release_id) / "report.html").exists(), output
    assert steps(settings) == ([] if step == "train_model" else ["deployed"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_run_leaves_no_step_and_resumes(settings: NexusSettings, how: signal.Signals) -> None:
    """A terminated run ends its step; killed and run again, the release ends as if nothing had happened."""
    process = start(settings, {"sleep": "analyze_canary"})
    record = ReleaseRecord(settings.release_dir(RELEASE.release_id))
    deadline = time.monotonic() + 200
    while not any(event.step == "analyze_canary" for event in record.events()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    process.communicate(timeout=30)
    if how is signal.SIGTERM:
        assert not psutil.wait_procs(children, timeout=5)[1]
    for child in children:
        if child.is_running():
            child.kill()
    assert steps(settings) == ["deployed"]
    assert run(settings)[0] == 0
    assert steps(settings) == ["deployed", "canary", "canary", "canary", "promoted"]


def test_verdict_in_git_without_a_conclusion_is_brought_to_its_end(settings: NexusSettings) -> None:
    """Killed between the verdict's commit and the rest, the next run finishes without running a step again."""
    run(settings, decision="roll-back")
    folder = settings.release_dir(RELEASE.release_id)
    (folder / "conclusion.json").unlink()
    (folder / "pipeline.log").unlink()
    assert run(settings)[0] == 0
    assert conclusion(settings).outcome == "rolled-back"
    assert not (folder / "pipeline.log").exists()


def test_candidate_that_is_never_served_is_a_verdict_of_one_run(settings: NexusSettings) -> None:
    """The command's exit code says rolled back, the report is made, and the second run says the same at once."""
    code, output = run(settings, broken="candidate")
    assert code == 0, output
    assert steps(settings) == ["deployed", "rolled-back"]
    record = ReleaseRecord(settings.release_dir(RELEASE.release_id))
    outcome = read_outcome(record, release_id=RELEASE.release_id, name=RELEASE.name, seconds=1, exit_code=code)
    assert EXIT_CODES[outcome.result] == 3
    assert outcome.reason == conclusion(settings).reason == f"never served: the engine exited with code 3: {WORDS[-1]}"
    assert WORDS[-1] in (record.folder / "report.html").read_text()
    assert failures(settings) == []
    head = GitOps.of(settings).head().commit
    assert run(settings)[0] == 0
    assert GitOps.of(settings).head().commit == head
    assert conclusion(settings).reason == outcome.reason


def test_machine_at_fault_fails_the_run_and_the_next_one_goes_on(settings: NexusSettings) -> None:
    """The baseline does not answer either: no verdict, exit code of a failed release, and running it again promotes."""
    code, _ = run(settings, broken="all")
    assert code == 1
    assert conclusion(settings) is None
    [(step, message)] = failures(settings)
    assert step == "deploy_kserve"
    assert "nothing can be said of the candidate" in message
    assert steps(settings) == ["deployed"]
    assert run(settings)[0] == 0
    assert steps(settings)[-1] == "promoted"


def test_held_release_is_taken_up_again(settings: NexusSettings) -> None:
    """An inconclusive verdict ends the run, not the release."""
    assert run(settings, decision="inconclusive")[0] == 0
    assert conclusion(settings).outcome == "held"
    assert run(settings)[0] == 0
    assert steps(settings) == ["deployed", "canary", "canary", "canary", "held", "promoted"]


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_wrong_arguments_are_a_usage_error(arguments: list[str]) -> None:
    """One argument, the resolved release."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.run_local", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "resolved release" in done.stderr
