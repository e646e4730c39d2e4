"""vLLM imported once, served many times: what the engine parent imports, and what its forks run.

Written against vLLM 0.32; its names below are checked by importing them, so another version fails at the start.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

IMPORT_ENV: Final[Mapping[str, str]] = {
    # One process less per engine, and forks in place of new interpreters that would import everything again.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # A fork copies one thread only: whatever is imported must not have started a pool.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

_ENTRY = "vllm.entrypoints.launchers.api_server.entry"
_MODULES = (
    "torch",
    "vllm",
    _ENTRY,
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.executor.uniproc_executor",
    "vllm.model_executor.models.llama",
    "vllm.v1.attention.backends.cpu_attn",
)
# vLLM's CPU platform insists on `spawn`; each of these modules holds its own name for the function.
_CONTEXT_USERS = ("vllm.utils.system_utils", "vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor")

# The sampler compiles this small helper at the first request for log probabilities, eager mode or not: measured 3 s an
# engine with a warm compiler cache and up to 15 s without, in which it answers nobody. Eager it takes microseconds.
_SAMPLER, _COMPILED_HELPER = "vllm.v1.sample.sampler", "batched_count_greater_than"


def import_engine(say: Callable[[str], None]) -> None:
    """Import what a server needs. Takes 15 to 30 seconds.

    Raises:
        ImportError: This is not the vLLM that the module docstring names.
    """
    for name in _MODULES:
        say(f"importing {name}")
        importlib.import_module(name)
    for name in _CONTEXT_USERS:
        module: Any = importlib.import_module(name)
        if not hasattr(module, "get_mp_context"):
            raise ImportError(f"expected {name}.get_mp_context of vLLM 0.32; got another version: install the lock")
        module.get_mp_context = _fork_context
    sampler: Any = importlib.import_module(_SAMPLER)
    helper = getattr(sampler, _COMPILED_HELPER)
    setattr(sampler, _COMPILED_HELPER, getattr(helper, "_torchdynamo_orig_callable", helper))


def serve(arguments: Sequence[str]) -> None:
    """Run vLLM's server in this process until it ends; called in a fork of the process that called `import_engine`."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # noqa: TID251 - set by `become_engine`
    sys.argv = ["vllm-server", *arguments]
    entry: Any = importlib.import_module(_ENTRY)
    entry.main()


def _fork_context() -> Any:
    return multiprocessing.get_context("fork")
