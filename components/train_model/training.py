"""Train the base model until it answers held-out questions, or until time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import torch

from components.train_model.language_model import answer_loss, build_model, exact_match, round_to_bfloat16
from components.train_model.samples import Sample, endless_batches
from components.train_model.thread_choice import ThreadChoice
from serving.contracts.release_spec import TrainRecipe
from serving.contracts.training import StopReason, beside_target

PLANNED_ROWS: Final = 22_400
"""Rows seen until the learning rate has come down, and one pass at least: 0.90 exact match on the demo's data."""
_FLAT_FRACTION = 0.5
_LOWEST_RATE_FRACTION = 0.1
_WEIGHT_DECAY = 0.05
_BETAS = (0.9, 0.98)
_GRADIENT_NORM = 1.0
_STEPS_BETWEEN_EVALUATIONS = 200

Say = Callable[[str, float | None], None]


class TrainingError(Exception):
    """Training cannot go on."""


@dataclass(frozen=True)
class TrainingData:
    """Encoded sets; `multi_turn` may be empty, the others not."""

    train: Sequence[Sample]
    evaluation: Sequence[Sample]
    multi_turn: Sequence[Sample]


@dataclass
class Progression:
    """What happened during training; the curve holds (seconds, loss, exact match)."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stop_reason: StopReason = StopReason.TIME_LIMIT
    exact_match: float = 0.0
    multi_turn_exact_match: float | None = None
    curve: list[tuple[float, float, float]] = field(default_factory=list)


def train(recipe: TrainRecipe, tokenizer: Any, data: TrainingData, say: Say) -> tuple[Any, Progression]:
    """Train a model.

    The schedule counts steps, so two runs on one machine give the same weights; only a time limit that would cut it
    short makes it go faster.

    Args:
        recipe: Size, rates, target and time limit.
        tokenizer: Of the data.
        data: Encoded sets.
        say: Receives progress and its fraction.

    Raises:
        TrainingError: The loss is no number any more.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = ThreadChoice.for_device(device)
    model = build_model(recipe, tokenizer).to(device)
    model.train()
    optimizer = _optimizer(model, recipe)
    batches = endless_batches(data.train, recipe.batch_size, Random(recipe.seed))
    planned = math.ceil(max(PLANNED_ROWS, len(data.train)) / recipe.batch_size)
    done = Progression()
    started = time.monotonic()
    while True:
        began = time.monotonic()
        threads.start_step(done.steps)
        done.steps += 1
        fraction = max(done.steps / planned, done.seconds / recipe.max_seconds)
        _set_rate(optimizer, recipe, done.steps, fraction)
        batch = next(batches)
        loss = answer_loss(model, batch, tokenizer.pad_token_id, device)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), _GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(sample.ids) for sample in batch)
        done.tokens += tokens
        done.seconds = time.monotonic() - started
        threads.end_step(tokens, time.monotonic() - began)
        late = done.seconds >= recipe.max_seconds
        if late or done.steps % _STEPS_BETWEEN_EVALUATIONS == 0:
            done.exact_match = exact_match(model, data.evaluation, tokenizer.pad_token_id, device)
            _tell(done, loss.item(), recipe, say, fraction)
            if late or done.exact_match >= recipe.target_exact_match:
                break
    return _finish(model, done, recipe, data, tokenizer.pad_token_id, device)


def rate_fraction(fraction: float) -> float:
    """Return the learning rate at a fraction of the schedule, over its highest: flat, then a line down to a tenth."""
    if fraction <= _FLAT_FRACTION:
        return 1.0
    left = (1.0 - fraction) / (1.0 - _FLAT_FRACTION)
    return max(_LOWEST_RATE_FRACTION, left)


def _set_rate(optimizer: torch.optim.Optimizer, recipe: TrainRecipe, step: int, fraction: float) -> None:
    warm = min(1.0, step / max(1, recipe.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * warm * rate_fraction(fraction)


def _optimizer(model: Any, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Make AdamW; weight decay is for matrices only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=_BETAS, fused=True)


def _tell(done: Progression, loss: float, recipe: TrainRecipe, say: Say, fraction: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"expected a finite loss; got {loss} at step {done.steps}: lower `learning_rate` ({recipe.learning_rate})"
        )
    done.curve.append((round(done.seconds, 2), round(loss, 4), round(done.exact_match, 4)))
    say(
        f"step {done.steps}, loss {loss:.2f}, "
        f"exact match {beside_target(done.exact_match, recipe.target_exact_match)}, {done.seconds:.0f} s",
        min(1.0, fraction),
    )


def _finish(
    model: Any, done: Progression, recipe: TrainRecipe, data: TrainingData, pad_id: int, device: str
) -> tuple[Any, Progression]:
    """Measure the weights as they will be saved."""
    round_to_bfloat16(model)
    if done.exact_match >= recipe.target_exact_match:
        done.stop_reason = StopReason.TARGET_REACHED
    done.exact_match = exact_match(model, data.evaluation, pad_id, device)
    if data.multi_turn:
        done.multi_turn_exact_match = exact_match(model, data.multi_turn, pad_id, device)
    return model, done
