"""Model folders that can be served, and each way in which one cannot."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.local.errors import WeightsError
from serving.local.weights import check_weights
from tests.fakes.node_home import write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_whole_folder_passes(model: Path) -> None:
    """Nothing is wrong with it."""
    check_weights(model)


def tensors(model: Path) -> Path:
    return model / "model.safetensors"


def cut(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes()[:-1])


def cut_to_header(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes()[:20])


def cut_to_nothing(model: Path) -> None:
    tensors(model).write_bytes(b"")


def lengthen(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes() + b"x")


def huge_header(model: Path) -> None:
    tensors(model).write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def header_of_nonsense(model: Path) -> None:
    tensors(model).write_bytes(struct.pack("<Q", 4) + b"nope")


def header_of_a_list(model: Path) -> None:
    tensors(model).write_bytes(struct.pack("<Q", 2) + b"[]")


def index_without_its_file(model: Path) -> None:
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def binary_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_bytes(b"\0\1\2")


def tokenizer_without_model(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")


def broken_tokenizer_config(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{")


def config_of_a_list(model: Path) -> None:
    (model / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (cut, "truncated"),
        (cut_to_header, "truncated"),
        (cut_to_nothing, "truncated"),
        (lengthen, "damaged"),
        (huge_header, "truncated"),
        (header_of_nonsense, "header is damaged"),
        (header_of_a_list, "header is damaged"),
        (index_without_its_file, "00001-of-00002.*cannot be read"),
        (lambda model: tensors(model).unlink(), "expected \\*.safetensors"),
        (binary_tokenizer, "tokenizer.json cannot be read"),
        (tokenizer_without_model, "tokenizer.json cannot be read"),
        (broken_tokenizer_config, "tokenizer_config.json is no JSON"),
        (lambda model: (model / "tokenizer.json").unlink(), "expected tokenizer.json"),
        (config_of_a_list, "config.json"),
        (lambda model: (model / "config.json").unlink(), "config.json cannot be read"),
    ],
)
def test_damage_is_named(model: Path, damage: Callable[[Path], object], expected: str) -> None:
    """The file and what is wrong with it stand in the message."""
    damage(model)
    with pytest.raises(WeightsError, match=expected):
        check_weights(model)


def test_every_problem_is_listed(model: Path) -> None:
    """Somebody who copies the folder again does it once."""
    cut(model)
    binary_tokenizer(model)
    (model / "config.json").unlink()
    with pytest.raises(WeightsError) as caught:
        check_weights(model)
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_no_folder(tmp_path: Path, kind: str) -> None:
    """A missing folder and a file in its place are told apart."""
    if kind == "file":
        (tmp_path / "x").write_text("")
    with pytest.raises(WeightsError, match=f"got {'a file' if kind == 'file' else 'nothing'}"):
        check_weights(tmp_path / "x")


def test_sharded_weights_pass(model: Path) -> None:
    """Files that the index names are checked, each once."""
    tensors(model).rename(model / "a.safetensors")
    index = {"weight_map": {"w": "a.safetensors", "v": "a.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    check_weights(model)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json"])
def test_other_tokenizers_are_left_to_the_engine(model: Path, name: str) -> None:
    """Formats that only the engine reads are not refused."""
    (model / "tokenizer.json").unlink()
    (model / name).write_text("{}")
    check_weights(model)
