import math
from pathlib import Path

import pytest

from components.register_model.figures import Reports, metrics, params, tags
from components.register_model.logic import NoWinnerError, _winner
from serving.environment_lock import EnvironmentStampError
from serving.settings import NexusSettings
from tests.fakes.releases import DATA_DIGEST, make_release, make_reports

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def reports() -> Reports:
    return Reports(*make_reports(DIGEST))


def test_every_figure_is_kept_and_finite(reports: Reports) -> None:
    """Quality with its interval, speed at each level, gates, size and times; what was not measured is left out."""
    found = metrics(reports, *_winner(reports))
    assert found["quality.exact_match"] == 0.9
    assert found["quality.exact_match.low"] == 0.87
    assert found["speed.c4.ttft_p90_ms"] == 20
    assert found["engine.ready_seconds"] == 4.7
    assert "quality.exact_match_loss" not in found
    assert all(math.isfinite(value) for value in found.values())


def stamp(settings: NexusSettings, environment: str, text: str) -> None:
    folder = settings.environment_dir(environment)
    folder.mkdir(parents=True)
    (folder / "nexus-environment.json").write_text(text)


def test_version_can_be_traced(reports: Reports, tmp_path: Path) -> None:
    """Digests of data and base weights, revision, release, and the locks that were installed stand on the version."""
    settings = NexusSettings(home=tmp_path)
    stamp(settings, "engine", '{"python": "3", "locks": {"engine-cuda.txt": "e1"}, "project": ""}')
    stamp(settings, "core", '{"python": "3", "locks": {"dev.txt": "d1", "core.txt": "c1"}, "project": ""}')
    release = make_release()
    winner = _winner(reports)[0].model_copy(update={"lock": "autogptq.txt a1"})
    found = tags(release, reports, winner, settings)
    assert found["nexus.data_digest"] == DATA_DIGEST
    assert found["nexus.release"] == release.release_id
    assert found["nexus.lock.engine"] == "engine-cuda.txt e1"
    assert found["nexus.lock.core"] == "core.txt c1, dev.txt d1"
    assert found["nexus.lock.recipe"] == "autogptq.txt a1"
    assert params(release, reports, winner)["engine.max-num-seqs"] == "1"


def test_environment_that_nobody_vouches_for_is_called_so(reports: Reports, tmp_path: Path) -> None:
    """No stamp is no lock; the one beside the code is not what was installed. A broken stamp is an error."""
    settings = NexusSettings(home=tmp_path)
    found = tags(make_release(), reports, _winner(reports)[0], settings)
    assert {name: value for name, value in found.items() if name.startswith("nexus.lock")} == {
        "nexus.lock.core": "unstamped",
        "nexus.lock.engine": "unstamped",
        "nexus.lock.recipe": "unstamped",
    }
    stamp(settings, "engine", "{")
    with pytest.raises(EnvironmentStampError, match="nexus install engine"):
        tags(make_release(), reports, _winner(reports)[0], settings)


@pytest.mark.parametrize("winner", [None, "other"])
def test_registration_needs_a_winner_that_was_built(reports: Reports, winner: str | None) -> None:
    """No winner, or one that quantization did not build, is refused."""
    benchmark = reports.benchmark.model_copy(update={"winner": winner})
    with pytest.raises(NoWinnerError, match="bf16"):
        _winner(Reports(reports.data, reports.training, reports.quantization, benchmark))
