"""Weights from elsewhere are checked before anything is built on them; each fault names its file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from components.train_model.logic import obtain
from components.train_model.sources import SourceError, parse_pin
from serving.contracts.training import StopReason
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.registry import Registry, VersionContent
from serving.settings import NexusSettings
from tests.fakes.data_sets import make_contract, release_with
from tests.fakes.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]  # imports MLflow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _obtain(tmp_path: Path, source: dict[str, str]):  # type: ignore[no-untyped-def]
    release = release_with(make_contract(), tmp_path, source)
    settings, record = NexusSettings(home=tmp_path / "home"), ReleaseRecord(tmp_path / "record")
    return obtain(release, tmp_path / "no-data", tmp_path / "model", settings=settings, record=record)


def test_a_local_folder_is_checked_and_copied(tmp_path: Path) -> None:
    """A local model folder is copied with an equal digest, and the report says that no training was done."""
    folder = write_tiny_llama(tmp_path / "weights")
    report = _obtain(tmp_path, {"path": "weights"})
    assert report.stop_reason is StopReason.SKIPPED
    assert report.origin == "weights"
    assert report.parameters > 10_000
    assert report.weights_digest == digest_folder(folder) == digest_folder(tmp_path / "model")


def _truncate(folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-1])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"expected a Hugging Face model folder at .*weights; got nothing"),
    "no model type": (lambda folder: (folder / "config.json").write_text("{}"), r"expected `model_type`; got None"),
    "cut weights": (_truncate, r"model.safetensors: expected \d+ bytes .* truncated or damaged"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"got no tokenizer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder_is_refused_by_the_file_at_fault(tmp_path: Path, fault: str) -> None:
    """Each kind of damage is refused with the file at fault, and nothing is put out or left behind."""
    damage, says = FAULTS[fault]
    damage(write_tiny_llama(tmp_path / "weights"))
    with pytest.raises(SourceError, match=says):
        _obtain(tmp_path, {"path": "weights"})
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("source", ["owner/name", "owner/name@main", "owner/name@abc123", "name@" + COMMIT, ""])
def test_a_hub_source_must_be_pinned(source: str) -> None:
    """A hub source without owner, name and a full commit is refused, and the message asks for 40 hex digits."""
    with pytest.raises(SourceError, match="40 hex digits"):
        parse_pin(source)


def test_a_hub_that_cannot_be_reached_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is out of reach is an error that names the model and its commit, and suggests a path."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(SourceError, match=rf"expected owner/name at {COMMIT} from the model hub; .*use `source: .path"):
        _obtain(tmp_path, {"hub": f"owner/name@{COMMIT}"})


def test_a_hub_download_is_checked_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is the boundary that is replaced; what arrives is a folder with a cut file."""

    def download(repo_id: str, *, revision: str, local_dir: Path, **_: object) -> str:
        assert (repo_id, revision) == ("owner/name", COMMIT)
        _truncate(write_tiny_llama(local_dir))
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(SourceError, match="truncated or damaged"):
        _obtain(tmp_path, {"hub": f"owner/name@{COMMIT}"})


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_registered_version_is_fetched_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    """A version under a known alias arrives with its digest, and an alias that nobody set is refused by name."""
    folder = write_tiny_llama(tmp_path / "weights")
    settings = NexusSettings(home=tmp_path / "home")
    digest = digest_folder(folder)
    Registry(settings).register(VersionContent("small", folder, weights_digest=digest, content_digest="c" * 64))
    report = _obtain(tmp_path, {"mlflow": "models:/small@candidate"})
    assert report.weights_digest == digest
    with pytest.raises(SourceError, match="small@stable"):
        _obtain(tmp_path, {"mlflow": "models:/small@stable"})
