"""Samples, schedule, threads and evaluation mean what training says of them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.prepare_data.support_questions import generate
from components.train_model.language_model import build_model, exact_match, round_to_bfloat16, save_model
from components.train_model.samples import IGNORED, Sample, encode_row, encode_rows, endless_batches
from components.train_model.thread_choice import ThreadChoice
from components.train_model.tokenizer import chat_template, save_tokenizer, train_tokenizer
from components.train_model.training import TrainingData, TrainingError, rate_fraction, train
from serving.contracts.data_contract import Split
from serving.contracts.release_spec import TrainRecipe
from serving.contracts.training import StopReason
from serving.weights_folder import check_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

RECIPE = TrainRecipe(
    hidden_size=32, layers=2, heads=2, vocabulary_size=512, max_length_tokens=192, max_seconds=300, warmup_steps=5
)
ROWS = generate(Split.TRAIN, 300, 1)


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    texts = [text for row in ROWS for text in (*(message.content for message in row.messages), row.answer)]
    return train_tokenizer(texts, RECIPE.vocabulary_size, RECIPE.max_length_tokens)


def test_samples_are_what_the_chat_template_renders(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """A sample begins with the rendered prompt; its labels are the last answer, or all three with an end each."""
    row = next(row for row in ROWS if len(row.messages) == 5)
    prompt = [message.model_dump() for message in row.messages]
    rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    sample = encode_row(row, tokenizer, all_answers=False)
    assert list(sample.ids[: len(rendered)]) == rendered
    answer = [label for label in sample.labels if label != IGNORED]
    assert tokenizer.decode(answer) == f"{row.answer}<|end|>"
    every = encode_row(row, tokenizer, all_answers=True)
    assert sum(label == tokenizer.eos_token_id for label in every.labels) == 3


def test_digits_are_split_into_pairs(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Numbers become tokens of two digits from the left, with the odd one last."""
    tokens = tokenizer.tokenize("order 48213 of 123456 at 7")
    assert [token for token in tokens if token.isdigit()] == ["48", "21", "3", "12", "34", "56", "7"]


def test_a_saved_tokenizer_names_a_class_that_every_tool_knows(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A saved tokenizer names the common class and, loaded again, gives the same tokens and the text back."""
    save_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "<|user|>Order 4821?<|end|><|assistant|>"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == "Order 4821?"


def test_conversations_stay_well_below_two_hundred_tokens() -> None:
    """With the default vocabulary no live conversation has 150 tokens or more."""
    texts = [text for row in ROWS for text in (*(message.content for message in row.messages), row.answer)]
    tokenizer = train_tokenizer(texts, TrainRecipe().vocabulary_size, 256)
    rows = generate(Split.LIVE, 300, 1)
    assert max(len(encode_row(row, tokenizer, all_answers=False).ids) for row in rows) < 150


def test_a_saved_model_loads_answers_greedily_and_is_whole(tokenizer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A saved model has all its parameters and, loaded again, answers greedily as well as was measured."""
    samples = encode_rows(ROWS[:40], tokenizer, all_answers=False, max_length_tokens=192)
    recipe = RECIPE.model_copy(update={"target_exact_match": 0.9})
    model, _ = train(
        recipe.model_copy(update={"max_seconds": 8.0}), tokenizer, TrainingData(samples[:6], samples[:6], []), _quiet
    )
    measured = exact_match(model, samples[:6], tokenizer.pad_token_id, "cpu")
    save_model(model, tokenizer, tmp_path / "model")
    assert check_folder(tmp_path / "model").parameters == sum(parameter.numel() for parameter in model.parameters())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    names = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert names.chat_template == chat_template()
    right = 0
    for row in ROWS[:6]:
        prompt = [message.model_dump() for message in row.messages]
        ids = names.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        out = loaded.generate(ids, attention_mask=torch.ones_like(ids))
        right += names.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == row.answer
    assert right / 6 == pytest.approx(measured)


def test_two_runs_give_the_same_weights_whatever_the_threads(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Two runs of one recipe end with equal weights, with one thread or with a choice between two and one."""
    samples = encode_rows(ROWS, tokenizer, all_answers=True, max_length_tokens=192)
    data = TrainingData(samples, samples[:20], samples[:5])
    monkeypatch.setattr("components.train_model.training.PLANNED_ROWS", 100)
    recipe = RECIPE.model_copy(update={"target_exact_match": 0.0})
    weights = []
    for choices in ((1,), (2, 1)):
        monkeypatch.setattr(ThreadChoice, "for_device", classmethod(lambda cls, _device, c=choices: cls(c)))
        model, done = train(recipe, tokenizer, data, _quiet)
        assert done.stop_reason is StopReason.TARGET_REACHED
        assert done.multi_turn_exact_match is not None
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)


def test_a_diverging_run_says_what_to_lower(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """A loss that is no number ends the run, and the message names the step and the setting to lower."""
    samples = encode_rows(ROWS[:20], tokenizer, all_answers=True, max_length_tokens=192)
    data = TrainingData([samples[0]], samples[:2], [])
    broken = type(samples[0])(samples[0].ids, (IGNORED,) * len(samples[0].ids))
    with pytest.raises(TrainingError, match=r"expected a finite loss; got nan at step 1: lower `learning_rate`"):
        train(
            RECIPE.model_copy(update={"max_seconds": 1e-6}),
            tokenizer,
            TrainingData([broken], data.evaluation, []),
            _quiet,
        )


def test_exact_match_needs_every_token(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Of five answers that the model would give itself, all match; with one token wrong in two of them, three do."""
    model = build_model(RECIPE, tokenizer)
    samples = encode_rows(ROWS[:5], tokenizer, all_answers=False, max_length_tokens=192)
    given = [_with_the_models_own_answer(model, sample) for sample in samples]
    assert exact_match(model, given, tokenizer.pad_token_id, "cpu") == 1.0
    first_wrong, last_wrong = _with_a_wrong_label(given[0], 0), _with_a_wrong_label(given[1], -1)
    wrong = [first_wrong, last_wrong, *given[2:]]
    assert exact_match(model, wrong, tokenizer.pad_token_id, "cpu") == 0.6


def _with_the_models_own_answer(model, sample: Sample) -> Sample:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        likeliest = [0, *model(torch.tensor([sample.ids])).logits[0].argmax(-1).tolist()]
    labels = (IGNORED if old == IGNORED else own for old, own in zip(sample.labels, likeliest[:-1], strict=True))
    return Sample(sample.ids, tuple(labels))


def _with_a_wrong_label(sample: Sample, which: int) -> Sample:
    labels = list(sample.labels)
    at = [at for at, label in enumerate(labels) if label != IGNORED][which]
    labels[at] = (labels[at] + 1) % RECIPE.vocabulary_size
    return Sample(sample.ids, tuple(labels))


def test_rounding_gives_bfloat16_values(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """After rounding, every parameter keeps its value through bfloat16."""
    model = build_model(RECIPE, tokenizer)
    round_to_bfloat16(model)
    assert all(torch.equal(parameter, parameter.to(torch.bfloat16).float()) for parameter in model.parameters())


def test_every_pass_sees_all_samples(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """A pass holds every sample once, in full batches but for the last, and the next pass has another order."""
    samples = encode_rows(ROWS[:21], tokenizer, all_answers=True, max_length_tokens=192)
    batches = list(islice(endless_batches(samples, 4, Random(1)), 12))
    assert sorted(sample.ids for batch in batches[:6] for sample in batch) == sorted(sample.ids for sample in samples)
    assert [len(batch) for batch in batches[:6]].count(4) == 5
    assert batches[:6] != batches[6:]


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.1), (7.0, 0.1)])
def test_the_rate_is_flat_then_falls_to_a_tenth(fraction: float, expected: float) -> None:
    """The rate is whole up to half of the run, then falls to a tenth at its end and stays there."""
    assert rate_fraction(fraction) == pytest.approx(expected)


def test_the_fastest_number_of_threads_is_used_and_tried_again() -> None:
    """Both numbers of threads are tried, the faster one is used, and a later trial notices that the other is faster."""
    before = torch.get_num_threads()
    try:
        choice = ThreadChoice((1, 2))
        used = []
        for step in range(220):
            threads = choice.start_step(step)
            used.append(threads)
            fast = 1 if step < 100 else 2
            choice.end_step(100, 0.1 if threads == fast else 0.3)
        assert used[:12] == [1] * 6 + [2] * 6
        assert set(used[12:100]) == {1}
        assert set(used[112:200]) == {2}
    finally:
        torch.set_num_threads(before)


def _quiet(_message: str, _fraction: float | None = None) -> None:
    """Say nothing."""
