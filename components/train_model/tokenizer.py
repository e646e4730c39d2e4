"""Tokenizer of a model that is trained here: byte-level BPE, digits in pairs, one token a role."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from serving.files import write_atomic

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
ROLES: Final = ("<|system|>", "<|user|>", "<|assistant|>")

_DIGIT_PAIRS = [f"{number:02d}" for number in range(100)]
_PAIR_REPEATS = 2_000
"""Times that each pair is shown: enough to become a token of its own in the demo's vocabulary of 1,024."""
_TEMPLATE_FILE = Path(__file__).with_name("chat_template.jinja")


def chat_template() -> str:
    """Return the chat template: the whole conversation, then the assistant's token when an answer is asked for."""
    return _TEMPLATE_FILE.read_text(encoding="utf-8")


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, max_length_tokens: int) -> PreTrainedTokenizerFast:
    """Learn a tokenizer from texts.

    Digits are split into pairs from the left, and every pair is one token: a long number is few tokens, easy to copy.

    Args:
        texts: Every question and answer of the training set; the order decides ties.
        vocabulary_size: Tokens at most, the 256 bytes and the special tokens included.
        max_length_tokens: Longest sequence that the model is made for.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,2}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain(texts, _DIGIT_PAIRS * _PAIR_REPEATS), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=max_length_tokens,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = chat_template()
    return wrapped


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a tokenizer so that transformers 4 and 5, engines and quantizers load it.

    transformers 5 writes the class name `TokenizersBackend`, which earlier releases and LLM Compressor do not know.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_atomic(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
