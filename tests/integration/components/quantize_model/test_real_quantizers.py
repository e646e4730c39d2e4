"""The real tools on a tiny random model: LLM Compressor in one worker, round-to-nearest beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.quantize_model import render_calibration
from components.quantize_model.dequantize import Checkpoint
from components.quantize_model.logic import quantize
from serving.contracts.quantization_report import CandidateStatus, QuantizationReport
from serving.contracts.release_spec import QuantizeRecipe
from serving.files import digest_folder
from serving.record import ReleaseRecord
from serving.settings import NexusSettings
from tests.fakes.releases import make_release

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]

RECIPES = (
    QuantizeRecipe.model_validate({"name": "w8a8", "method": "llmcompressor-w8a8-int8", "required": True}),
    QuantizeRecipe.model_validate({"name": "odd", "method": "llmcompressor-gptq-w4a16", "group_size": 48}),
    QuantizeRecipe.model_validate({"name": "w4a16", "method": "llmcompressor-gptq-w4a16", "group_size": 32}),
    QuantizeRecipe.model_validate({"name": "fp8", "method": "llmcompressor-fp8-dynamic"}),
    QuantizeRecipe.model_validate({"name": "rtn8", "method": "round-to-nearest-dense", "bits": 8}),
    QuantizeRecipe.model_validate({"name": "rtn2", "method": "round-to-nearest-dense", "bits": 2}),
    QuantizeRecipe.model_validate({"name": "autogptq", "method": "auto-gptq-w4a16"}),
)
WORDS = ["<pad>", "<end>", "<user>", "<assistant>", "where", "is", "my", "order", "on", "its", "way"]
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_model(folder: Path, template: str | None = TEMPLATE) -> Path:
    """A two-layer Llama with random weights and a word tokenizer."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=32, max_position_embeddings=64, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_rows(folder: Path) -> Path:
    folder.mkdir()
    row = {"intent": "order", "messages": [{"role": "user", "content": "where is my order"}], "answer": "on its way"}
    lines = [json.dumps({"id": f"c{n}", **row}) for n in range(16)]
    (folder / "calibration.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(folder: Path, base: Path, recipes: tuple[QuantizeRecipe, ...]) -> QuantizationReport:
    release = make_release()
    release = release.model_copy(update={"spec": release.spec.model_copy(update={"recipes": recipes})})
    return quantize(
        release,
        folder / "data",
        base,
        folder / "candidates",
        settings=NexusSettings(home=folder / "home"),
        record=ReleaseRecord(folder / "record"),
    )


def test_recipes_side_by_side(tmp_path: Path) -> None:
    """W8A8, W4A16, FP8 and rounding are built from one base; what cannot be built says why; a second run is cached."""
    make_rows(tmp_path / "data")
    base = make_model(tmp_path / "base")
    report = run(tmp_path, base, RECIPES)
    found = {candidate.name: candidate for candidate in report.candidates}
    reasons = {name: c.reason for name, c in found.items() if c.status is CandidateStatus.FAILED}
    assert set(reasons) == {"odd", "autogptq"}, reasons
    assert "group_size 48" in (reasons["odd"] or "")
    assert "nexus install autogptq" in (reasons["autogptq"] or "")

    worst = {name: max(c.layer_errors.values()) for name, c in found.items() if c.layer_errors}
    assert 0 < worst["rtn8"] < worst["fp8"] < worst["w4a16"] < worst["rtn2"] < 1
    assert 0 < worst["w8a8"] < 0.02
    assert found["w8a8"].tool.startswith("llmcompressor ")
    assert found["w8a8"].layer_errors["model.embed_tokens"] == 0
    sizes = {name: c.size_bytes or 0 for name, c in found.items()}
    assert sizes["w4a16"] < sizes["w8a8"] < report.base_size_bytes == sizes["rtn2"]

    for name in ("w8a8", "fp8", "w4a16", "rtn2"):
        folder = tmp_path / "candidates" / name
        assert found[name].weights_digest == digest_folder(folder)
        assert (folder / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    compare_with_the_tool(tmp_path / "candidates" / "w8a8")
    assert run(tmp_path, base, RECIPES).candidates[0] == report.candidates[0]


def compare_with_the_tool(folder: Path) -> None:
    """Our dense weights equal those that compressed-tensors itself makes when transformers loads the folder."""
    from transformers import CompressedTensorsConfig  # noqa: PLC0415 - slow

    model = LlamaForCausalLM.from_pretrained(
        folder, quantization_config=CompressedTensorsConfig(run_compressed=False), dtype="auto"
    )
    layer = "model.layers.1.mlp.down_proj"
    theirs = dict(model.named_modules())[layer].weight.float()
    assert torch.allclose(Checkpoint(folder).dense(layer), theirs, rtol=1e-2)


@pytest.mark.parametrize(
    ("template", "vocabulary", "words"),
    [(None, 32, "chat template"), ("{{ '' }}", 32, "rendered a row to nothing"), (TEMPLATE, 5, "different models")],
)
def test_tokenizer_that_does_not_fit_is_refused(
    tmp_path: Path, template: str | None, vocabulary: int, words: str
) -> None:
    """No chat template, one that renders nothing, and ids beyond the model's vocabulary are each named."""
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([[{"role": "user", "content": "where is my order"}]]))
    arguments = {
        "base": str(make_model(tmp_path / "base", template)),
        "rows": str(rows),
        "output": str(tmp_path / "tokens.json"),
        "max_tokens": 8,
        "vocabulary_size": vocabulary,
    }
    with pytest.raises(ValueError, match=words):
        render_calibration.run(arguments)


def test_calibration_rows_hold_the_answer(tmp_path: Path) -> None:
    """Rows are rendered as the model meets them: every turn, the answer last, cut at the model's length."""
    rows = tmp_path / "rows.json"
    turns = [{"role": "user", "content": "where is my order"}, {"role": "assistant", "content": "on its way"}]
    rows.write_text(json.dumps([turns, turns[:1]]))
    arguments = {
        "base": str(make_model(tmp_path / "base")),
        "rows": str(rows),
        "output": str(tmp_path / "tokens.json"),
        "max_tokens": 8,
        "vocabulary_size": 32,
    }
    assert render_calibration.run(arguments) == {"rows": 2, "tokens": 14}
    first, second = json.loads((tmp_path / "tokens.json").read_text())
    assert [WORDS[token] for token in first] == ["<user>", "where", "is", "my", "order", "<end>", "<assistant>", "on"]
    assert [WORDS[token] for token in second] == ["<user>", "where", "is", "my", "order", "<end>"]
