"""A fault before every effect of the spine, then run it again: the end state is the one of an undisturbed run."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving import layout, release_state
from serving.contracts.canary_verdict import Decision
from serving.contracts.conclusion import Conclusion, ReleaseOutcome
from serving.files import digest_folder
from serving.gitops import GitOps
from serving.record import ReleaseRecord
from serving.registry import Registry
from serving.settings import NexusSettings
from tests.fakes.releases import MODEL
from tests.fakes.spine import RELEASE, before_effect, fill_disk, kill, prepare_home, run_spine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow 3.17's own
]
MAX_EFFECTS = 60
MIN_EFFECTS = 25
ENDING_EFFECTS = 12  # conclude has nine; before it both decisions are one path, killed once is enough


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a stable version and an empty registry, made once; every case gets a copy."""
    home = tmp_path_factory.mktemp("template") / "home"
    settings = prepare_home(home)
    assert Registry(settings)._client is not None
    return home


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "killed": (kill, "killed"),
    "full disk": (fill_disk, "No space left on device"),
}
"""What happens, and how a run that it met ends."""


def in_child(settings: NexusSettings, decision: Decision, number: int, fault: Callable[[], None]) -> str:
    """Run the spine in a forked process; tell how it ended: `killed`, by which error, or after how many effects."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            count = before_effect(number, fault)
            run_spine(settings, decision)
            os.write(writer, str(count()).encode())
            code = 0
        except Exception as exc:  # noqa: BLE001 - told to the parent
            os.write(writer, f"{type(exc).__name__}: {exc}".encode())
        finally:
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    return text


def end_state(settings: NexusSettings) -> dict[str, Any]:
    """Everything that must be equal, without times, run ids and commit names."""
    gitops = GitOps.of(settings)
    head = gitops.head()
    client = Registry(settings)._client
    versions = client.search_model_versions(f"name = '{MODEL}'")
    runs = client.search_runs([client.get_experiment_by_name(f"nexus/{MODEL}").experiment_id])
    folder = Path(versions[0].source.removeprefix("file://"))
    conclusion = ReleaseRecord(settings.release_dir(RELEASE.release_id)).read("conclusion", Conclusion)
    state = release_state.read_release(gitops, RELEASE.release_id, settings.environment)
    return {
        "files": {path: (head.read(path) or "").replace(str(folder), "WEIGHTS") for path in head.paths()},
        "transitions": [(t.step, t.weight_percent, t.verdict) for t in state.transitions],
        "versions": len(versions),
        "version tags": {key for key in versions[0].tags},
        "verdict tag": versions[0].tags["nexus.verdict"],
        "aliases": dict(client.get_registered_model(MODEL).aliases),
        "runs": [(run.info.status, sorted(run.data.params), sorted(run.data.metrics)) for run in runs],
        "artifacts": sorted(path.name for path in folder.parent.iterdir()),
        "weights": digest_folder(folder),
        "commit is named": conclusion is not None and conclusion.commit == state.last.commit,
        "conclusion": conclusion.model_dump(exclude={"commit", "committed_at"}) if conclusion else None,
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("decision", [Decision.PROMOTE, Decision.ROLL_BACK])
def test_a_fault_before_any_effect_ends_in_the_same_state(
    template: Path, tmp_path: Path, decision: Decision, fault: str
) -> None:
    """No version, run, service or commit is doubled or lost, wherever the first run was killed or its disk full."""
    undisturbed = NexusSettings(home=shutil.copytree(template, tmp_path / "undisturbed"))
    effects = int(in_child(undisturbed, decision, 0, kill))
    assert MIN_EFFECTS < effects < MAX_EFFECTS
    expected = end_state(undisturbed)
    first = 1 if decision is Decision.PROMOTE else effects - ENDING_EFFECTS
    for number in range(first, effects + 1):
        settings = NexusSettings(home=shutil.copytree(template, tmp_path / f"home-{number}"))
        ended = in_child(settings, decision, number, FAULTS[fault][0])
        assert FAULTS[fault][1] in ended, f"effect {number} of {effects}: {ended}"
        run_spine(settings, decision)
        found = end_state(settings)
        differing = {key: (found[key], expected[key]) for key in expected if found[key] != expected[key]}
        assert not differing, (
            f"{fault} before effect {number} of {effects}: {json.dumps(differing, default=str)[:2000]}"
        )
        shutil.rmtree(settings.home)


def test_finished_release_changes_nothing(template: Path, tmp_path: Path) -> None:
    """Running a finished release again makes no commit, no version, no run."""
    settings = NexusSettings(home=shutil.copytree(template, tmp_path / "home"))
    first = run_spine(settings, Decision.PROMOTE)
    head, state = GitOps.of(settings).head().commit, end_state(settings)
    assert run_spine(settings, Decision.PROMOTE) == first
    assert (GitOps.of(settings).head().commit, end_state(settings)) == (head, state)
    assert first.outcome is ReleaseOutcome.PROMOTED


def test_same_content_is_one_version_for_two_releases(template: Path, tmp_path: Path) -> None:
    """A second attempt of the same content is judged anew, on the version that is registered already."""
    settings = NexusSettings(home=shutil.copytree(template, tmp_path / "home"))
    run_spine(settings, Decision.ROLL_BACK)
    again = RELEASE.model_copy(update={"release_id": f"{MODEL}-{'f' * 12}", "attempt": 2})
    conclusion = run_spine(settings, Decision.PROMOTE, release=again)
    assert (conclusion.outcome, conclusion.registry_version) == (ReleaseOutcome.PROMOTED, "1")
    client = Registry(settings)._client
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 1
    assert client.get_registered_model(MODEL).aliases == {"stable": 1}


def test_held_release_goes_on_and_is_promoted(template: Path, tmp_path: Path) -> None:
    """An inconclusive verdict keeps weight and alias; running again shifts only what is left."""
    settings = NexusSettings(home=shutil.copytree(template, tmp_path / "home"))
    held = run_spine(settings, Decision.INCONCLUSIVE, weights=(5, 25))
    assert held.outcome is ReleaseOutcome.HELD
    assert Registry(settings)._client.get_registered_model(MODEL).aliases == {"candidate": 1}
    run_spine(settings, Decision.PROMOTE)
    state = release_state.read_release(GitOps.of(settings), RELEASE.release_id, settings.environment)
    assert [t.step for t in state.transitions] == ["deployed", "canary", "canary", "held", "canary", "promoted"]
    assert [t.weight_percent for t in state.transitions] == [0, 5, 25, 25, 50, 100]


def test_services_folder_is_left_with_the_winner(template: Path, tmp_path: Path) -> None:
    """After promotion the repository holds one service, and the registry's stable alias is its version."""
    settings = NexusSettings(home=shutil.copytree(template, tmp_path / "home"))
    conclusion = run_spine(settings, Decision.PROMOTE)
    paths = GitOps.of(settings).head().paths(layout.services_folder(MODEL, "local"))
    assert [Path(path).stem for path in paths] == [conclusion.stable_service]
