"""Quantization methods, one file each; the table says where each runs and what it needs.

A method's file is a program of the worker: `load()` imports the tool, `run(arguments)` fills the folder
`arguments["output"]` with config.json and *.safetensors. Files for a foreign environment import the standard library
and their tool only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.contracts.release_spec import QuantizeMethod

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Method:
    """Where a method's program lies, what it runs in, and which fields of a recipe change its result.

    `environment` None is the step's own; `packages` decide the result, the first is the tool the report names.
    `embeddings` tells that embeddings and head are quantized too.
    """

    file: str
    packages: tuple[str, ...]
    environment: str | None = None
    calibrated: bool = False
    embeddings: bool = False
    reads: tuple[str, ...] = ()

    @property
    def program(self) -> Path:
        """Path of the program."""
        return _FOLDER / self.file

    @property
    def grouped(self) -> bool:
        """Whether columns share scales, so that a layer's inputs must divide into groups."""
        return "group_size" in self.reads


_COMPRESSOR = ("llmcompressor", "compressed-tensors", "transformers", "torch")

METHODS: Final[Mapping[QuantizeMethod, Method]] = {
    QuantizeMethod.NONE: Method("none.py", ("nexus-llm",)),
    QuantizeMethod.W8A8_INT8: Method("llmcompressor_w8a8_int8.py", _COMPRESSOR, calibrated=True),
    QuantizeMethod.FP8_DYNAMIC: Method("llmcompressor_fp8_dynamic.py", _COMPRESSOR),
    QuantizeMethod.GPTQ_W4A16: Method(
        "llmcompressor_gptq_w4a16.py", _COMPRESSOR, calibrated=True, reads=("group_size",)
    ),
    QuantizeMethod.RTN_DENSE: Method(
        "round_to_nearest_dense.py",
        ("nexus-llm", "torch", "safetensors"),
        embeddings=True,
        reads=("bits", "group_size"),
    ),
    QuantizeMethod.GPTQMODEL_W4A16: Method(
        "gptqmodel_w4a16.py",
        ("gptqmodel", "transformers", "torch"),
        environment="gptqmodel",
        calibrated=True,
        reads=("group_size",),
    ),
    QuantizeMethod.AUTO_GPTQ_W4A16: Method(
        "auto_gptq_w4a16.py",
        ("auto-gptq", "transformers", "torch"),
        environment="autogptq",
        calibrated=True,
        reads=("group_size",),
    ),
}
