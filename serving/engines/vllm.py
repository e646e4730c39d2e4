"""vLLM's OpenAI server, on the CPU and on NVIDIA GPUs.

Started as a module: the `vllm` command fails under the CPU build, which looks for a distribution named vllm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from serving.engines.base import (
    DRAIN_SECONDS,
    ArgumentValue,
    Device,
    EngineCommand,
    EngineHost,
    EngineSpec,
    check_arguments,
    dashed,
    server_argv,
)

MODULE: Final = "vllm.entrypoints.openai.api_server"

# The server must answer over HTTP where the gateway looks for it, and `config` could set all of the others.
_RESERVED: Final = frozenset({"host", "port", "model", "model-tag", "served-model-name", "uds", "config"})
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class VllmEngine:
    """vLLM 0.32."""

    reserved = _RESERVED

    def command(self, spec: EngineSpec, host: EngineHost) -> EngineCommand:
        """See `Engine.command`."""
        check_arguments(spec, self.reserved)
        options = self.options({"shutdown-timeout": DRAIN_SECONDS, **dashed(spec.arguments)})
        argv = server_argv(spec, host, MODULE, model_option="model", options=options)
        return EngineCommand(argv=argv, env={**_OFFLINE, **_device_env(host), **spec.env})

    def options(self, arguments: Mapping[str, ArgumentValue]) -> list[str]:
        """See `Engine.options`; every flag of vLLM has its `--no-` twin."""
        out = []
        for name, value in sorted(dashed(arguments).items()):
            if isinstance(value, bool):
                out.append(f"--{name}" if value else f"--no-{name}")
            else:
                out.append(f"--{name}={value}")
        return out


def _device_env(host: EngineHost) -> dict[str, str]:
    if host.device is Device.CUDA:
        return {}
    # Two threads an engine stall each other as soon as several engines share the cores (FACTS, section 2).
    return {"OMP_NUM_THREADS": str(host.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
