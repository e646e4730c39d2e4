"""Command lines of the engines, and the arguments that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.contracts.release_spec import EngineName
from serving.engines.base import Device, EngineArgumentError, EngineHost, EngineSpec
from serving.engines.registry import ENGINES, build_command

CPU = EngineHost(Path("/env/bin/python"), Device.CPU, threads=2)
CUDA = EngineHost(Path("/env/bin/python"), Device.CUDA)


def spec(engine: EngineName = EngineName.VLLM, **extra: Any) -> EngineSpec:
    return EngineSpec(engine, Path("/models/m"), "support", 20001, **extra)


def test_table_knows_every_engine() -> None:
    """Each engine that a document may name has a line in the table."""
    assert set(ENGINES) == set(EngineName)


def test_vllm_on_the_cpu() -> None:
    """vLLM's module is started offline on the loopback, drains by default, and is bound to no core."""
    command = build_command(spec(arguments={"max_model_len": 256, "enforce-eager": True}, env={"A": "b"}), CPU)
    assert command.argv == (
        "/env/bin/python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--host=127.0.0.1",
        "--port=20001",
        "--model=/models/m",
        "--served-model-name=support",
        "--enforce-eager",
        "--max-model-len=256",
        "--shutdown-timeout=30",
    )
    assert command.env == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "A": "b",
    }


def test_vllm_on_cuda_has_no_thread_settings() -> None:
    """The CPU's variables do not reach a GPU."""
    assert not {"OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"} & build_command(spec(), CUDA).env.keys()


def test_document_may_change_the_drain_and_switch_a_flag_off() -> None:
    """Arguments of the document win over defaults; false becomes vLLM's --no- form."""
    argv = build_command(spec(arguments={"shutdown_timeout": 5, "enable-prefix-caching": False}), CPU).argv
    assert argv[-2:] == ("--no-enable-prefix-caching", "--shutdown-timeout=5")


def test_sglang_on_the_cpu() -> None:
    """SGLang's CPU options stand in its argv; a false flag is left out."""
    command = build_command(
        spec(EngineName.SGLANG, arguments={"context-length": 256, "skip-tokenizer-init": False}), CPU
    )
    assert command.argv == (
        "/env/bin/python",
        "-m",
        "sglang.launch_server",
        "--host=127.0.0.1",
        "--port=20001",
        "--model-path=/models/m",
        "--served-model-name=support",
        "--attention-backend=torch_native",
        "--context-length=256",
        "--device=cpu",
        "--disable-overlap-schedule",
        "--sampling-backend=pytorch",
    )
    assert command.env["SGLANG_USE_CPU_ENGINE"] == "1"


def test_sglang_on_cuda() -> None:
    """On a GPU SGLang keeps its own backends."""
    command = build_command(spec(EngineName.SGLANG), CUDA)
    assert command.argv[3:] == (
        "--host=127.0.0.1",
        "--port=20001",
        "--model-path=/models/m",
        "--served-model-name=support",
    )
    assert "SGLANG_USE_CPU_ENGINE" not in command.env


@pytest.mark.parametrize("engine", list(EngineName))
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"": 1}, "without its dashes"),
        ({"--max-model-len": 1}, "without its dashes"),
        ({"max model len": 1}, "without its dashes"),
        ({"max-model-len\n--host": 1}, "without its dashes"),
        ({"port": 1}, "does not set itself"),
        ({"por": 1}, "does not set itself"),
        ({"host": "0.0.0.0"}, "does not set itself"),
        ({"served_model_name": "x"}, "does not set itself"),
        ({"model": "x"}, "does not set itself"),
        ({"config": "/x.yaml"}, "does not set itself"),
        ({"chat-template": "a\nb"}, "one line"),
        ({"chat-template": "a\0b"}, "one line"),
        ({"dtype": "--host=0.0.0.0"}, "starts like an option"),
        ({"dtype": "x" * 40_000}, "at most"),
        ({"max-model-len": 1, "max_model_len": 2}, "once"),
    ],
)
def test_hostile_arguments_are_refused(engine: EngineName, arguments: Any, expected: str) -> None:
    """Each is refused with its key and a reason; nothing is started."""
    with pytest.raises(EngineArgumentError, match=expected) as caught:
        build_command(spec(engine, arguments=arguments), CPU)
    assert "engine.arguments." in str(caught.value)


@pytest.mark.parametrize("env", [{"A B": "x"}, {"1A": "x"}, {"NEXUS_HOME": "/x"}, {"A": "x\ny"}, {"A": "\0"}])
def test_hostile_variables_are_refused(env: Any) -> None:
    """Names that are none, our own settings, and values that break a line are refused."""
    with pytest.raises(EngineArgumentError, match=r"engine\.env"):
        build_command(spec(env=env), CPU)


def test_all_problems_are_listed() -> None:
    """Somebody who repairs a document sees everything at once."""
    with pytest.raises(EngineArgumentError) as caught:
        build_command(spec(arguments={"port": 1, "dtype": "--x"}, env={"NEXUS_A": "1"}), CPU)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("key", ["unknown-option", "model-impl", "config-format", "hf-overrides.rope", "seed"])
def test_unknown_options_are_passed(key: str) -> None:
    """The engine knows its options better; names that only look like reserved ones pass."""
    assert f"--{key}=1" in build_command(spec(arguments={key: 1}), CPU).argv
