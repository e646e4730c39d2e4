"""The Llama that is trained here: how it is made, what it is asked, how it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from components.train_model.samples import IGNORED, Sample, to_tensors
from components.train_model.tokenizer import save_tokenizer
from serving.contracts.release_spec import TrainRecipe

_INNER_RATIO = 3
"""Width of the feed-forward layers over the hidden size: 0.77M parameters with the default recipe."""
_ROPE_BASE = 10_000.0
_EVALUATION_BATCH = 64
_MAX_ANSWER_TOKENS = 64


def build_model(recipe: TrainRecipe, tokenizer: Any) -> LlamaForCausalLM:
    """Make an untrained model in float32; its weights follow from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=_INNER_RATIO * recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.max_length_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_BASE},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def answer_loss(model: LlamaForCausalLM, samples: Sequence[Sample], pad_id: int, device: str) -> torch.Tensor:
    """Return the mean cross entropy over labelled tokens, in nats; only their logits are computed."""
    hidden, targets = _labelled(model, samples, pad_id, device)
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), targets)


def exact_match(model: LlamaForCausalLM, samples: Sequence[Sample], pad_id: int, device: str) -> float:
    """Return the share of samples whose labelled tokens are all the most likely ones.

    With labels on the last answer only, that is what greedy decoding gets right: it repeats the right tokens as long as
    each is the most likely one after the right ones before it. One pass replaces token-by-token generation.
    """
    model.eval()
    right = 0
    ordered = sorted(samples, key=lambda sample: len(sample.ids))
    with torch.no_grad():
        for start in range(0, len(ordered), _EVALUATION_BATCH):
            batch = ordered[start : start + _EVALUATION_BATCH]
            hidden, targets = _labelled(model, batch, pad_id, device)
            hits = (model.lm_head(hidden).argmax(-1) == targets).tolist()
            for sample in batch:
                count = sum(label != IGNORED for label in sample.labels)
                right += all(hits[:count])
                hits = hits[count:]
    model.train()
    return right / len(samples)


def round_to_bfloat16(model: LlamaForCausalLM) -> None:
    """Round the weights to what will be saved, so that the last evaluation measures exactly that."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def save_model(model: LlamaForCausalLM, tokenizer: Any, folder: Path) -> None:
    """Save a Hugging Face folder in bfloat16, with a greedy generation config."""
    transformers_logging.disable_progress_bar()
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=1,
        max_new_tokens=_MAX_ANSWER_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(device="cpu", dtype=torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def _labelled(
    model: LlamaForCausalLM, samples: Sequence[Sample], pad_id: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states that predict labelled tokens, shape (labels, hidden), and these tokens, in row order.

    Padding on the right needs no attention mask: a causal model never looks at it before the labels end.
    """
    ids, labels = to_tensors(samples, pad_id, device)
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    mask = targets != IGNORED
    return hidden[mask], targets[mask]
