"""Run a training recipe on a data folder; importing this module imports torch and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from components.train_model.language_model import save_model
from components.train_model.samples import encode_rows
from components.train_model.tokenizer import train_tokenizer
from components.train_model.training import Say, TrainingData, TrainingError, train
from serving.contracts.data_contract import DataRow, Split
from serving.contracts.release_spec import TrainRecipe
from serving.contracts.training import TrainingReport
from serving.data_rows import read_rows, split_file
from serving.files import digest_folder

MULTI_TURN_SAMPLE: Final = 300
"""Conversations of the live set that are asked once, at the end."""


def run_recipe(recipe: TrainRecipe, data: Path, folder: Path, say: Say) -> TrainingReport:
    """Train a model on `train.jsonl` and save it.

    Args:
        recipe: How.
        data: Folder with `train.jsonl` and `evaluation.jsonl`; `live.jsonl` is asked where it exists.
        folder: Receives the Hugging Face folder.
        say: Receives progress.

    Raises:
        TrainingError: No row fits the model's window, or training diverged.
        DataRowsError: The rows cannot be read.
    """
    say("learning the tokenizer", 0.0)
    rows = read_rows(split_file(data, Split.TRAIN))
    tokenizer = train_tokenizer(_texts(rows), recipe.vocabulary_size, recipe.max_length_tokens)
    live = split_file(data, Split.LIVE)
    conversations = [row for row in read_rows(live) if len(row.messages) > 1] if live.exists() else []
    window = recipe.max_length_tokens
    sets = TrainingData(
        encode_rows(rows, tokenizer, all_answers=True, max_length_tokens=window),
        encode_rows(
            read_rows(split_file(data, Split.EVALUATION)), tokenizer, all_answers=False, max_length_tokens=window
        ),
        encode_rows(conversations[:MULTI_TURN_SAMPLE], tokenizer, all_answers=False, max_length_tokens=window),
    )
    if not sets.train or not sets.evaluation:
        raise TrainingError(
            f"expected rows of at most {window} tokens to train on and to ask; none fits: raise `max_length_tokens`"
        )
    model, done = train(recipe, tokenizer, sets, say)
    save_model(model, tokenizer, folder)
    return TrainingReport(
        stop_reason=done.stop_reason,
        steps=done.steps,
        seconds=done.seconds,
        parameters=model.num_parameters(),
        exact_match=done.exact_match,
        multi_turn_exact_match=done.multi_turn_exact_match,
        tokens_per_second=done.tokens / done.seconds,
        weights_digest=digest_folder(folder),
        origin="train",
        curve=tuple(done.curve),
    )


def _texts(rows: list[DataRow]) -> list[str]:
    return [text for row in rows for text in (*(message.content for message in row.messages), row.answer)]
