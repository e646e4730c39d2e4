"""Engine table: a new engine is one file, its test, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from serving.contracts.release_spec import EngineName
from serving.engines.base import Engine, EngineCommand, EngineHost, EngineSpec
from serving.engines.sglang import SglangEngine
from serving.engines.vllm import VllmEngine

ENGINES: Final[Mapping[EngineName, Engine]] = {
    EngineName.VLLM: VllmEngine(),
    EngineName.SGLANG: SglangEngine(),
}


def build_command(spec: EngineSpec, host: EngineHost) -> EngineCommand:
    """Return how to start the server of a spec.

    Raises:
        EngineArgumentError: An argument or variable was refused; all of them are listed.
    """
    return ENGINES[spec.engine].command(spec, host)
