"""What training gave is taken again when it is whole; what a time limit cut short, by the same attempt alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.train_model.logic import obtain
from serving.contracts.data_contract import Split
from serving.contracts.release_spec import ResolvedRelease
from serving.contracts.training import StopReason, TrainingReport, beside_target
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from serving.source_content import ChangedSourceError
from tests.fakes.data_sets import make_contract, make_row, release_with, write_splits

ROWS = {Split.TRAIN: [make_row(1)], Split.EVALUATION: [make_row(2)]}


class Trainer:
    """Stands for `recipe_run`, which imports torch; each run gives other weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        self.reached = False
        monkeypatch.setitem(sys.modules, "components.train_model.recipe_run", SimpleNamespace(run_recipe=self.run))  # type: ignore[arg-type]

    def run(self, _recipe: object, _data: Path, folder: Path, _say: object) -> TrainingReport:
        self.runs += 1
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(f"run {self.runs}")
        return TrainingReport(
            stop_reason=StopReason.TARGET_REACHED if self.reached else StopReason.TIME_LIMIT,
            steps=10,
            seconds=1.0,
            parameters=1,
            exact_match=0.9 if self.reached else 0.8967,
            weights_digest=digest_folder(folder),
            origin="train",
        )


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return Trainer(monkeypatch)


def _obtain(tmp_path: Path, attempt: int) -> tuple[TrainingReport, str]:
    data = write_splits(tmp_path / "data", ROWS)
    release = release_with(make_contract(), tmp_path, {"train": {}}).model_copy(update={"attempt": attempt})
    record = ReleaseRecord(tmp_path / "record")
    settings = NexusSettings(home=tmp_path / "home")
    report = obtain(release, data, tmp_path / "model", settings=settings, record=record)
    assert digest_folder(tmp_path / "model") == report.weights_digest
    return report, record.events()[-1].message


def test_weights_that_reached_the_target_serve_every_attempt(tmp_path: Path, trainer: Trainer) -> None:
    """A recipe that reached its target is not trained again."""
    trainer.reached = True
    first, _ = _obtain(tmp_path, 1)
    assert _obtain(tmp_path, 2)[0] == first
    assert trainer.runs == 1


def test_weights_cut_short_serve_their_own_attempt_alone(tmp_path: Path, trainer: Trainer) -> None:
    """A killed release finds what its time limit left; `--again`, the next attempt, trains anew on a calmer machine."""
    first, _ = _obtain(tmp_path, 1)
    assert _obtain(tmp_path, 1)[0] == first
    assert trainer.runs == 1
    trainer.reached = True
    second, _ = _obtain(tmp_path, 2)
    assert trainer.runs == 2
    assert second.weights_digest != first.weights_digest
    assert _obtain(tmp_path, 1)[0] == second
    assert trainer.runs == 2


def test_a_missed_target_is_not_rounded_away(tmp_path: Path, trainer: Trainer) -> None:
    """The step's last line says time limit beside a figure that is below the target."""
    assert "time-limit: exact match 0.897 of 0.9 " in _obtain(tmp_path, 1)[1]


@pytest.mark.parametrize(
    ("value", "target", "text"),
    [
        (0.5, 0.9, "0.50"),
        (0.894, 0.9, "0.89"),
        (0.895, 0.9, "0.895"),
        (0.8996, 0.9, "0.8996"),
        (0.9, 0.9, "0.90"),
        (0.904, 0.9, "0.90"),
        (0.99999999, 1.0, "1.00000"),
    ],
)
def test_digits_show_on_which_side_of_the_target_a_share_is(value: float, target: float, text: str) -> None:
    """Two digits, and more of a share below its target while they would show the target; five at most."""
    assert beside_target(value, target) == text


def test_weights_that_changed_since_the_release_was_resolved_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release's id names its weights, so other bytes behind its path are refused with what to do."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    digest = digest_folder(tmp_path / "weights")
    monkeypatch.setattr("components.train_model.sources._checked", lambda _folder: 1)

    def take(release: ResolvedRelease) -> TrainingReport:
        settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
        return obtain(release, tmp_path / "data", tmp_path / "model", settings=settings, record=record)

    release = release_with(make_contract(), tmp_path, {"path": "weights"}).model_copy(update={"weights_digest": digest})
    assert take(release).weights_digest == digest
    (tmp_path / "weights" / "config.json").write_text("{ }")
    with pytest.raises(ChangedSourceError, match="release the spec again"):
        take(release)
