"""SGLang's OpenAI server, for workflows that share long prefixes.

Its CPU options exist for machines where its kernels do; the demo serves with vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from serving.engines.base import (
    ArgumentValue,
    Device,
    EngineCommand,
    EngineHost,
    EngineSpec,
    check_arguments,
    dashed,
    server_argv,
)

MODULE: Final = "sglang.launch_server"

_RESERVED: Final = frozenset({"host", "port", "model", "model-path", "served-model-name", "config"})
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
_CPU_ARGUMENTS: Final[Mapping[str, ArgumentValue]] = {
    "device": "cpu",
    "attention-backend": "torch_native",
    "sampling-backend": "pytorch",
    "disable-overlap-schedule": True,
}


class SglangEngine:
    """SGLang 0.5."""

    reserved = _RESERVED

    def command(self, spec: EngineSpec, host: EngineHost) -> EngineCommand:
        """See `Engine.command`."""
        check_arguments(spec, self.reserved)
        on_cpu = host.device is Device.CPU
        options = self.options({**(_CPU_ARGUMENTS if on_cpu else {}), **dashed(spec.arguments)})
        argv = server_argv(spec, host, MODULE, model_option="model-path", options=options)
        cpu_env = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": str(host.threads)} if on_cpu else {}
        return EngineCommand(argv=argv, env={**_OFFLINE, **cpu_env, **spec.env})

    def options(self, arguments: Mapping[str, ArgumentValue]) -> list[str]:
        """See `Engine.options`; SGLang's flags have no `--no-` twin, so a false one is left out."""
        out = []
        for name, value in sorted(dashed(arguments).items()):
            if value is True:
                out.append(f"--{name}")
            elif value is not False:
                out.append(f"--{name}={value}")
        return out
