"""A tiny Hugging Face folder and data written byte by byte: what quantization checks before any tool runs."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

SHAPES: Mapping[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (8, 4),
    "model.layers.0.mlp.down_proj.weight": (4, 6),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.norm.weight": (4,),
}
CONFIG: Mapping[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8}
_TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
}  # fmt: skip


def safetensors_bytes(shapes: Mapping[str, tuple[int, ...]], fill: int = 1) -> bytes:
    """A safetensors file of uint8 tensors, every byte `fill`."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 1
        for part in shape:
            size *= part
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes([fill]) * end


def make_base(folder: Path) -> Path:
    """A whole weights folder with a readable tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"max_position_embeddings": 16}))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(SHAPES))
    (folder / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def make_calibration(folder: Path, rows: int = 3) -> Path:
    """A data folder with a calibration split."""
    folder.mkdir(parents=True)
    lines = [
        {"id": f"c{n}", "intent": "greeting", "messages": [{"role": "user", "content": "a"}], "answer": "a"}
        for n in range(rows)
    ]
    (folder / "calibration.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
