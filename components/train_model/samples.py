"""Rows as token sequences with labels, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from serving.contracts.data_contract import DataRow, Message

IGNORED = -100
"""Label of a token without loss; torch's cross entropy skips it by default."""
_BATCHES_SORTED_TOGETHER = 32
"""Batches' worth of samples sorted by length together: little padding, and still other neighbours every time."""


@dataclass(frozen=True)
class Sample:
    """Token ids of a conversation and its answer; labels are the ids where loss counts."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


def encode_row(row: DataRow, tokenizer: Any, *, all_answers: bool) -> Sample:
    """Encode a row as the chat template renders it, with the answer and its end.

    Args:
        row: Conversation and answer.
        tokenizer: From `train_tokenizer`.
        all_answers: Loss counts on every assistant turn; otherwise on the last answer only.
    """
    ids: list[int] = []
    labels: list[int] = []
    for message in (*row.messages, Message(role="assistant", content=row.answer)):
        role = tokenizer.convert_tokens_to_ids(f"<|{message.role}|>")
        content = [*tokenizer(message.content, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids += [role, *content]
        labels += [IGNORED, *(content if message.role == "assistant" else [IGNORED] * len(content))]
    if not all_answers:
        labels = [IGNORED] * (len(ids) - len(content)) + content
    return Sample(tuple(ids), tuple(labels))


def encode_rows(rows: Sequence[DataRow], tokenizer: Any, *, all_answers: bool, max_length_tokens: int) -> list[Sample]:
    """Encode rows; those longer than the model's window are left out."""
    samples = (encode_row(row, tokenizer, all_answers=all_answers) for row in rows)
    return [sample for sample in samples if len(sample.ids) <= max_length_tokens]


def to_tensors(samples: Sequence[Sample], pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad samples on the right to the longest; returns ids and labels, each of shape (samples, tokens)."""
    longest = max(len(sample.ids) for sample in samples)
    ids = [[*sample.ids, *[pad_id] * (longest - len(sample.ids))] for sample in samples]
    labels = [[*sample.labels, *[IGNORED] * (longest - len(sample.labels))] for sample in samples]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def endless_batches(samples: Sequence[Sample], batch_size: int, random: Random) -> Iterator[Sequence[Sample]]:
    """Yield batches for ever; every pass sees all samples once in a new order, neighbours in length together."""
    pool = list(samples)
    chunk = batch_size * _BATCHES_SORTED_TOGETHER
    while True:
        random.shuffle(pool)
        batches: list[Sequence[Sample]] = []
        for start in range(0, len(pool), chunk):
            together = sorted(pool[start : start + chunk], key=lambda sample: len(sample.ids))
            batches += [together[at : at + batch_size] for at in range(0, len(together), batch_size)]
        random.shuffle(batches)
        yield from batches
