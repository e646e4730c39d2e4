"""A weights folder is whole, or refused with every file at fault, what was expected, and what came."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from serving.weights_folder import WeightsFolderError, check_folder, check_tokenizer, read_weights
from tests.fakes.weights_folders import CONFIG, SHAPES, make_base, safetensors_bytes

INDEX = "model.safetensors.index.json"
Damage = Callable[[Path], object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_base(tmp_path / "model")


def test_headers_tell_shapes_and_size(model: Path) -> None:
    """Reading needs no tensor, and layers are matrices with embeddings on request."""
    weights = check_folder(model)
    assert {name: info.shape for name, info in weights.tensors.items()} == dict(SHAPES)
    assert weights.config["vocab_size"] == 8
    assert weights.size_bytes == (model / "model.safetensors").stat().st_size
    assert weights.layers(embeddings=False) == {
        "model.layers.0.mlp.down_proj": (4, 6),
        "model.layers.0.self_attn.q_proj": (4, 4),
    }
    assert "model.embed_tokens" in weights.layers(embeddings=True)
    assert "model.norm" not in weights.layers(embeddings=True)


def tensors(model: Path) -> Path:
    return model / "model.safetensors"


def cut(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes()[:-1])


def cut_to_header(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes()[:20])


def lengthen(model: Path) -> None:
    tensors(model).write_bytes(tensors(model).read_bytes() + b"x")


def garble_header(model: Path) -> None:
    raw = tensors(model).read_bytes()
    tensors(model).write_bytes(raw[:8] + b"[" + raw[9:])


def header(text: str, data: bytes = b"") -> Damage:
    """Write a weights file with this header."""
    return lambda model: tensors(model).write_bytes(struct.pack("<Q", len(text)) + text.encode() + data)


def entry(name: str, shape: str, first: int, last: int) -> str:
    return f'"{name}": {{"dtype": "U8", "shape": {shape}, "data_offsets": [{first}, {last}]}}'


def text(file: str, content: str) -> Damage:
    return lambda model: (model / file).write_text(content)


def index(weight_map: Mapping[str, object]) -> Damage:
    return text(INDEX, json.dumps({"weight_map": weight_map}))


def without(file: str) -> Damage:
    return lambda model: (model / file).unlink()


def renamed(name: str) -> Damage:
    return lambda model: tensors(model).rename(model / name)


WHOLE = dict.fromkeys(SHAPES, "model.safetensors")
UNKNOWN_WORDS = (
    '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}}'
)
DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut weights": (cut, r"  model\.safetensors: expected \d+ bytes as its header says; got \d+, truncated"),
    "long weights": (lengthen, r"model\.safetensors: expected \d+ bytes .*truncated or damaged"),
    "cut header": (cut_to_header, r"model\.safetensors: expected a whole safetensors header; got 20 bytes, truncated"),
    "empty weights": (lambda model: tensors(model).write_bytes(b""), "got 0 bytes, truncated"),
    "endless header": (lambda model: tensors(model).write_bytes(struct.pack("<Q", 1 << 60) + b"{}"), "got 10 bytes"),
    "garbled header": (garble_header, r"model\.safetensors: expected a safetensors header; got a damaged one"),
    "header of nonsense": (header("nope"), "got a damaged one"),
    "header of a list": (header("[]"), "got a damaged one"),
    "header in deep brackets": (header("[" * 100_000), "got a damaged one"),
    "header without offsets": (header('{"w": {"dtype": "U8", "shape": [1]}}'), "got a damaged one"),
    "gap between tensors": (
        header(f"{{{entry('v', '[1]', 0, 1)}, {entry('w', '[1]', 2, 3)}}}", b"xxx"),
        r"got a damaged one \(bytes 2 to 3 for w",
    ),
    "tensors over each other": (
        header(f"{{{entry('v', '[2]', 0, 2)}, {entry('w', '[2]', 1, 3)}}}", b"xxx"),
        r"got a damaged one \(bytes 1 to 3 for w",
    ),
    "shape of other size": (header(f"{{{entry('w', '[2, 2]', 0, 3)}}}", b"xxx"), r"w of shape \[2, 2\]"),
    "no tensors": (header("{}"), r"model\.safetensors: expected tensors; got none"),
    "no weights": (without("model.safetensors"), r"expected model\.safetensors, or .*; got no weights at all: save"),
    "pickled weights": (renamed("pytorch_model.bin"), r"got pytorch_model\.bin: save the model as safetensors"),
    "lost index": (renamed("model-1.safetensors"), r"got model-1\.safetensors: save"),
    "damaged second file": (text("extra.safetensors", "x"), r"extra\.safetensors: expected a whole safetensors header"),
    "folder for a file": (
        lambda model: (model / "extra.safetensors").mkdir(),
        r"extra\.safetensors: expected a readable file; got Is a directory",
    ),
    "lost shard": (
        index(WHOLE | {"lm_head.weight": "model-2.safetensors"}),
        r"model-2\.safetensors: expected a readable file; got No such file",
    ),
    "absent tensor": (
        index(WHOLE | {"x": "model.safetensors", "y": "model.safetensors"}),
        r"model\.safetensors: expected tensor 'x' as .*index.json says; .*\(2 of 6 tensors are missing\)",
    ),
    "index outside": (index({"x": "../model.safetensors"}), r"\*\.safetensors in this folder; got '\.\./model\.safet"),
    "index of a path": (index({"x": "/model.safetensors"}), r"got '/model\.safetensors'"),
    "index of the parent": (index({"x": ".."}), r"got '\.\.'"),
    "index of a number": (index({"x": 1}), "in this folder; got '1'"),
    "index of nothing": (index({}), r"index\.json: expected `weight_map` with tensors; got \{\}"),
    "index of a list": (text(INDEX, "[]"), r"index\.json: expected a JSON object; got list"),
    "index is no JSON": (text(INDEX, "{"), r"index\.json: expected JSON; got"),
    "no config": (without("config.json"), r"config\.json: expected a readable file; got No such file"),
    "config is no JSON": (text("config.json", "{"), r"config\.json: expected JSON; got"),
    "config is a list": (text("config.json", "[]"), r"config\.json: expected a JSON object; got list"),
    "config in deep brackets": (text("config.json", "[" * 100_000), r"config\.json: expected JSON; got"),
    "no model type": (
        text("config.json", '{"architectures": ["A"]}'),
        "expected `model_type`; got None: name a folder",
    ),
    "no architectures": (
        text("config.json", '{"model_type": "m"}'),
        "expected `architectures`; got None: name a folder",
    ),
    "empty architectures": (text("config.json", '{"model_type": "m", "architectures": []}'), r"got \[\]"),
    "no tokenizer": (
        without("tokenizer.json"),
        r"expected one of tokenizer\.json, tokenizer\.model, .*got no tokenizer",
    ),
    "empty tokenizer": (text("tokenizer.json", ""), r"tokenizer\.json: expected a readable tokenizer; got"),
    "cut tokenizer": (text("tokenizer.json", "{"), r"tokenizer\.json: expected a readable tokenizer; got"),
    "tokenizer without model": (text("tokenizer.json", "{}"), r"tokenizer\.json: expected a readable tokenizer; got"),
    "tokenizer of a version": (text("tokenizer.json", '{"version": "1.0"}'), "expected a readable tokenizer; got"),
    "binary tokenizer": (text("tokenizer.json", "\0\1\2"), "expected a readable tokenizer; got"),
    "tokenizer that cannot encode": (text("tokenizer.json", UNKNOWN_WORDS), "expected a readable tokenizer; got"),
    "no tokenizer config": (without("tokenizer_config.json"), r"tokenizer_config\.json: expected a readable file"),
    "broken tokenizer config": (text("tokenizer_config.json", "{"), r"tokenizer_config\.json: expected JSON; got"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(model: Path, name: str) -> None:
    """Each kind of damage is refused with the folder, the file at fault, what came, and the next action."""
    damage, says = DAMAGES[name]
    damage(model)
    with pytest.raises(WeightsFolderError, match=says) as caught:
        check_folder(model)
    assert f"expected a whole Hugging Face model in {model}; got\n" in str(caught.value)
    assert any(action in str(caught.value) for action in ("copy", "save the model", "name a folder"))


def test_every_problem_is_listed(model: Path) -> None:
    """Somebody who copies the folder again does it once."""
    cut(model)
    (model / "tokenizer.json").write_bytes(b"\0")
    (model / "config.json").unlink()
    (model / "extra.safetensors").write_bytes(b"")
    with pytest.raises(WeightsFolderError) as caught:
        check_folder(model)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "config.json", "extra.safetensors", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


@pytest.mark.parametrize("check", [check_folder, read_weights, check_tokenizer])
@pytest.mark.parametrize(("name", "got"), [("nothing", "got nothing"), ("file", "got a file"), ("x" * 300, "too long")])
def test_no_folder(tmp_path: Path, check: Callable[[Path], object], name: str, got: str) -> None:
    """A missing folder, a file in its place and a path that cannot be looked at are told apart."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsFolderError, match=f"Hugging Face model folder at .*{got}"):
        check(tmp_path / name)


def test_weights_and_tokenizer_can_be_checked_alone(model: Path) -> None:
    """Damage of one part is not seen by the check of the other."""
    without("tokenizer.json")(model)
    read_weights(model)
    with pytest.raises(WeightsFolderError, match="got no tokenizer"):
        check_tokenizer(model)
    text("tokenizer.json", (make_base(model.parent / "other") / "tokenizer.json").read_text())(model)
    cut(model)
    check_tokenizer(model)
    with pytest.raises(WeightsFolderError, match="truncated"):
        read_weights(model)


def test_shards_count_as_one(model: Path) -> None:
    """An index whose tensors are all there is accepted, and what its files hold is counted over all of them."""
    whole = check_folder(model).parameters
    (model / "model-2.safetensors").write_bytes(safetensors_bytes({"lm_head.weight": (8, 4)}))
    index(WHOLE | {"lm_head.weight": "model-2.safetensors"})(model)
    weights = check_folder(model)
    assert weights.files == ["model-2.safetensors", "model.safetensors"]
    assert weights.parameters == whole + 32
    assert weights.size_bytes == sum(file.stat().st_size for file in model.glob("*.safetensors"))


def test_an_index_comes_before_a_file_beside_it(model: Path) -> None:
    """A second copy of the weights that the index does not name is checked, but not counted: no loader reads it."""
    (model / "consolidated.safetensors").write_bytes(tensors(model).read_bytes())
    index(WHOLE)(model)
    weights = check_folder(model)
    assert weights.files == ["model.safetensors"]
    assert weights.size_bytes == tensors(model).stat().st_size


def test_a_type_that_is_not_known_here_is_left_to_the_engine(model: Path) -> None:
    """A newer safetensors type passes, for its size cannot be told."""
    header('{"w": {"dtype": "F2", "shape": [4], "data_offsets": [0, 1]}}', b"x")(model)
    assert check_folder(model).tensors["w"].dtype == "F2"


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json"])
def test_other_tokenizers_are_left_to_the_engine(model: Path, name: str) -> None:
    """Formats that only the engine reads are not refused."""
    without("tokenizer.json")(model)
    (model / name).write_text("{}")
    check_folder(model)


def test_tekken_needs_no_tokenizer_config(model: Path) -> None:
    """Mistral's own format is one file; every other one comes with its config."""
    without("tokenizer.json")(model)
    without("tokenizer_config.json")(model)
    (model / "tekken.json").write_text("{}")
    check_tokenizer(model)
    (model / "vocab.json").write_text("{}")
    with pytest.raises(WeightsFolderError, match=r"tokenizer_config\.json"):
        check_tokenizer(model)


GROUP = {"weights": {"num_bits": 4}}
PACKED = np.zeros((6, 2), np.int32)
STORED: dict[str, tuple[dict[str, object] | None, dict[str, np.ndarray], int]] = {
    "dense": (None, {"w.weight": np.zeros((6, 10)), "w.weight_scale": np.zeros(6)}, 66),
    "int8 with scales": (
        {"config_groups": {"a": {"weights": {"num_bits": 8}}}},
        {"w.weight": np.zeros((6, 10), np.int8), "w.weight_scale": np.zeros((6, 1)), "w.bias": np.zeros(6)},
        66,
    ),
    "packed with its shape": (
        {"config_groups": {"a": GROUP, "b": {"weights": {"num_bits": 8}}}},
        {"w.weight_packed": PACKED, "w.weight_shape": np.array([6, 11]), "w.weight_scale": np.zeros((6, 1))},
        66,
    ),
    "packed with a short shape": (
        {"config_groups": {"a": GROUP}},
        {"w.weight_packed": PACKED, "w.weight_shape": np.array([6, 11], np.int32)},
        66,
    ),
    "packed without its shape": ({"config_groups": {"a": GROUP}}, {"w.weight_packed": PACKED}, 96),
    "two values a byte": (
        {"config_groups": {"a": GROUP}},
        {"w.weight_packed": np.zeros((6, 5), np.uint8), "w.weight_global_scale": np.zeros(1)},
        60,
    ),
    "GPTQ": (
        {"bits": 4},
        {
            "w.qweight": PACKED,
            "w.qzeros": np.zeros((1, 2), np.int32),
            "w.scales": np.zeros((1, 2)),
            "w.g_idx": np.zeros(2, np.int32),
        },
        96,
    ),
    "several bits": ({"config_groups": {"a": GROUP, "b": {"weights": {"num_bits": 8}}}}, {"w.qweight": PACKED}, 12),
    "no bits": ({"bits": "four", "config_groups": {"a": {"weights": None}, "b": 3}}, {"w.qweight": PACKED}, 12),
    "groups of nonsense": ({"bits": [4], "config_groups": [1]}, {"w.qweight": PACKED}, 12),
}


@pytest.mark.parametrize("name", STORED)
def test_parameters_are_counted_unpacked(model: Path, name: str) -> None:
    """However weights are stored, the model has as many parameters; what says how they are packed does not count."""
    quantization, arrays, expected = STORED[name]
    save_file(arrays, tensors(model))
    (model / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": quantization}))
    assert check_folder(model).parameters == expected


def test_the_check_imports_no_model_library(model: Path) -> None:
    """Checking a folder costs no import of torch, transformers or numpy."""
    program = (
        "import sys; from pathlib import Path; from serving.weights_folder import check_folder; "
        "check_folder(Path(sys.argv[1])).parameters; "
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
