"""Program of the worker: render calibration conversations with the tokenizer's chat template into token lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def run(arguments: dict[str, Any]) -> dict[str, int]:
    """Write `output` (JSON, one list of token ids a row) from `rows` (lists of messages with the answer last)."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - the worker pays for it only when tokens are wanted

    tokenizer = AutoTokenizer.from_pretrained(arguments["base"], local_files_only=True)
    if not tokenizer.chat_template:
        raise ValueError("expected a chat template in the tokenizer's folder; got none")
    tokens = [
        tokenizer.apply_chat_template(row, tokenize=True, return_dict=False)[: arguments["max_tokens"]]
        for row in json.loads(Path(arguments["rows"]).read_text())
    ]
    if not all(tokens):
        raise ValueError("expected at least one token of every row; the chat template rendered a row to nothing")
    largest = max(max(row) for row in tokens)
    if largest >= arguments["vocabulary_size"]:
        raise ValueError(
            f"expected token ids below the model's vocabulary of {arguments['vocabulary_size']}; got {largest}: "
            "tokenizer and weights belong to different models"
        )
    Path(arguments["output"]).write_text(json.dumps(tokens))
    return {"rows": len(tokens), "tokens": sum(len(row) for row in tokens)}
