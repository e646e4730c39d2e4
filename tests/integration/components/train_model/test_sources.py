"""Weights from elsewhere are checked before anything is built on them; each fault names its file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from components.train_model.logic import obtain
from components.train_model.sources import SourceError, parse_pin
from components.train_model.weights_folder import WeightsError, check_model_folder
from serving.contracts.training import StopReason
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.registry import Registry, VersionContent
from serving.settings import NexusSettings
from tests.fakes.data_sets import make_contract, release_with
from tests.fakes.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]  # imports transformers and MLflow

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


def _shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"model.norm.weight": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _truncate(folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-1])


def _name_absent_tensor(folder: Path) -> None:
    _shard(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-1.safetensors"}}))


def _lose_shard(folder: Path) -> None:
    _shard(folder)
    (folder / "model-1.safetensors").unlink()


def _leave_the_folder(folder: Path) -> None:
    _shard(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../model-1.safetensors"}}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"expected a Hugging Face model folder at .*weights; got nothing"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"expected .*config.json; it is missing"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config.json; it cannot be read"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), r"JSON object in .*; got list"),
    "no model type": (lambda folder: (folder / "config.json").write_text("{}"), r"`model_type` in .*it is missing"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"got no weights at all: convert"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        r"got pytorch_model.bin: convert",
    ),
    "cut weights": (_truncate, r"model.safetensors; it is truncated or damaged"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"truncated or damaged"),
    "lost shard": (_lose_shard, r"weights file .*model-1.safetensors, which the index names; it is missing"),
    "absent tensor": (_name_absent_tensor, r"expected tensor 'x' in .*model-1.safetensors"),
    "index outside": (_leave_the_folder, r"expected a file name in .*; got '../model-1.safetensors'"),
    "cut tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:500]),
        r"expected a tokenizer in .*; it cannot be loaded",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"expected a tokenizer in .*"),
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


def test_sharded_weights_are_counted_over_all_files(tmp_path: Path) -> None:
    """Weights with an index count as many parameters as the same weights in one file."""
    folder = write_tiny_llama(tmp_path / "weights")
    whole = check_model_folder(folder)
    _shard(folder)
    assert check_model_folder(folder) == whole


def test_a_weights_error_is_a_source_error_to_callers(tmp_path: Path) -> None:
    """Checking a folder that is not there raises a weights error."""
    with pytest.raises(WeightsError):
        check_model_folder(tmp_path / "nothing")


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
