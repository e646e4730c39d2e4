"""Prepare, validate, train: the three steps make a model folder, and the next time it comes from the cache."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from components.prepare_data.logic import prepare
from components.train_model import recipe_run
from components.train_model.logic import obtain
from components.train_model.training import TrainingError
from components.validate_data.logic import validate
from serving.contracts.progress import EventKind
from serving.contracts.training import StopReason, TrainingReport
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.data_sets import make_contract, release_with

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),  # imports Great Expectations, torch and transformers: 20 s idle, more on a busy machine
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised inside libraries while they are imported
    pytest.mark.filterwarnings("ignore::ImportWarning"),
]

ROWS = {"train": 400, "evaluation": 80, "live": 60}
TINY = {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary_size": 512, "warmup_steps": 5, "max_length_tokens": 192}
UNTRAINED_LOSS = math.log(512)  # of a model that finds every token of the vocabulary as likely as the others


def _release(tmp_path: Path, **recipe: object):  # type: ignore[no-untyped-def]
    contract = make_contract(
        source={"generator": {"name": "support-questions", "rows": ROWS}},
        splits={split: {"min_rows": 10, "max_rows": 500, "min_intents": 30} for split in ROWS},
    )
    return release_with(contract, tmp_path, {"train": {**TINY, **recipe}})


def test_three_steps_make_a_model_and_the_second_time_is_cached(tmp_path: Path) -> None:
    """Training ends a fifth or more below an untrained model's loss, is reported, and the next time is cached."""
    release = _release(tmp_path, max_seconds=20, target_exact_match=0.02)
    settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
    prepare(release, tmp_path / "data", settings=settings, record=record)
    validate(release, tmp_path / "data", tmp_path / "validated", settings=settings, record=record)
    report = obtain(release, tmp_path / "validated", tmp_path / "model", settings=settings, record=record)
    assert report.weights_digest == digest_folder(tmp_path / "model")
    assert report.curve[-1][1] < 0.8 * UNTRAINED_LOSS
    assert report.stop_reason in (StopReason.TARGET_REACHED, StopReason.TIME_LIMIT)
    assert record.read("training", TrainingReport) == report
    said = [event.message for event in record.events() if event.step == "train_model"]
    assert any(message.startswith("step ") and "exact match" in message for message in said)
    again = obtain(release, tmp_path / "validated", tmp_path / "again", settings=settings, record=record)
    assert again == report
    assert digest_folder(tmp_path / "again") == report.weights_digest
    assert EventKind.CACHED in [event.kind for event in record.events() if event.step == "train_model"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while the model is saved leaves no output, no cache entry and no temporary folder."""
    release = _release(tmp_path, max_seconds=1)
    settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
    prepare(release, tmp_path / "data", settings=settings, record=record)

    def stop(model: object, tokenizer: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_run, "save_model", stop)
    with pytest.raises(KeyboardInterrupt):
        obtain(release, tmp_path / "data", tmp_path / "model", settings=settings, record=record)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "home" / "cache" / "train_model").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_rows_that_all_exceed_the_window_are_an_error(tmp_path: Path) -> None:
    """When no row fits the window, the error says which setting to raise."""
    release = _release(tmp_path, max_length_tokens=16)
    settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
    prepare(release, tmp_path / "data", settings=settings, record=record)
    with pytest.raises(TrainingError, match="raise `max_length_tokens`"):
        obtain(release, tmp_path / "data", tmp_path / "model", settings=settings, record=record)
