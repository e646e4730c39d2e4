import math

import pytest

from components.register_model.figures import Reports, metrics, params, tags
from components.register_model.logic import NoWinnerError, _winner
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


def test_version_can_be_traced(reports: Reports) -> None:
    """Digests of data, base weights and locks, revision and release stand on the version."""
    release = make_release()
    found = tags(release, reports, _winner(reports)[0])
    assert found["nexus.data_digest"] == DATA_DIGEST
    assert found["nexus.release"] == release.release_id
    assert found["nexus.lock.core"].startswith("sha256:")
    assert found["nexus.lock.core"] != found["nexus.lock.engine"]
    assert params(release, reports, _winner(reports)[0])["engine.max-num-seqs"] == "1"


@pytest.mark.parametrize("winner", [None, "other"])
def test_registration_needs_a_winner_that_was_built(reports: Reports, winner: str | None) -> None:
    """No winner, or one that quantization did not build, is refused."""
    benchmark = reports.benchmark.model_copy(update={"winner": winner})
    with pytest.raises(NoWinnerError, match="bf16"):
        _winner(Reports(reports.data, reports.training, reports.quantization, benchmark))
