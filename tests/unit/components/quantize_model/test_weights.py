"""A weights folder is whole, or refused with the file, what was expected, and what came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.quantize_model.errors import BrokenWeightsError
from components.quantize_model.weights import check_tokenizer, read_weights
from tests.fakes.weights_folders import SHAPES, make_base, safetensors_bytes


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def test_headers_tell_shapes_and_size(base: Path) -> None:
    """Reading needs no tensor, and layers are matrices with embeddings on request."""
    weights = read_weights(base)
    assert {name: info.shape for name, info in weights.tensors.items()} == dict(SHAPES)
    assert weights.size_bytes == (base / "model.safetensors").stat().st_size
    assert weights.layers(embeddings=False) == {
        "model.layers.0.mlp.down_proj": (4, 6),
        "model.layers.0.self_attn.q_proj": (4, 4),
    }
    assert "model.embed_tokens" in weights.layers(embeddings=True)
    assert "model.norm" not in weights.layers(embeddings=True)


def _truncate(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _lengthen(base: Path) -> None:
    with (base / "model.safetensors").open("ab") as file:
        file.write(b"x")


def _cut_header(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:20])


def _empty(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"")


def _garble_header(base: Path) -> None:
    raw = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(raw[:8] + b"[" + raw[9:])


def _no_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def _no_config(base: Path) -> None:
    (base / "config.json").unlink()


def _config_is_a_list(base: Path) -> None:
    (base / "config.json").write_text("[]")


def _shard_missing(base: Path) -> None:
    weight_map = dict.fromkeys(SHAPES, "model.safetensors") | {"lm_head.weight": "model-2.safetensors"}
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "truncated"),
        (_lengthen, "damaged"),
        (_cut_header, "whole safetensors header"),
        (_empty, "file of 0 bytes"),
        (_garble_header, "safetensors header"),
        (_no_weights, "expected *.safetensors"),
        (_no_config, "config.json"),
        (_config_is_a_list, "JSON object"),
        (_shard_missing, "lm_head.weight in model-2.safetensors"),
    ],
)
def test_damage_is_named(base: Path, damage: Callable[[Path], None], words: str) -> None:
    """Each kind of damage is refused, with the folder and the next action."""
    damage(base)
    with pytest.raises(BrokenWeightsError) as caught:
        read_weights(base)
    assert words in str(caught.value)
    assert str(base) in str(caught.value)
    assert "obtain the base weights again" in str(caught.value)


def test_shards_of_an_index_are_whole(base: Path) -> None:
    """An index whose tensors are all there is accepted."""
    (base / "model-2.safetensors").write_bytes(safetensors_bytes({"lm_head.weight": (8, 4)}))
    _shard_missing(base)
    assert read_weights(base).files == ["model-2.safetensors", "model.safetensors"]


@pytest.mark.parametrize("text", ["", "{", '{"version": "1.0"}', "\x00\x01"])
def test_unreadable_tokenizer_is_refused(base: Path, text: str) -> None:
    """A damaged tokenizer.json is found before any tool runs."""
    check_tokenizer(base)
    (base / "tokenizer.json").write_text(text)
    with pytest.raises(BrokenWeightsError, match="readable tokenizer"):
        check_tokenizer(base)


def test_missing_tokenizer_is_refused(base: Path) -> None:
    """A folder without any tokenizer file is refused."""
    (base / "tokenizer.json").unlink()
    with pytest.raises(BrokenWeightsError, match=r"tokenizer\.json, tokenizer\.model"):
        check_tokenizer(base)
