"""What every engine takes and gives: an `EngineSpec` in, the command line and environment of one server out.

Nothing here starts a process; `serving/local` does, and in a cluster KServe does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from serving.contracts.release_spec import EngineName

ArgumentValue = str | int | float | bool

DRAIN_SECONDS: Final = 30
"""Time for requests in flight after SIGTERM; KServe's grace period leaves 45 s after preStop."""

_OPTION = re.compile(r"[a-z0-9]([-_.a-z0-9]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_VALUE_CHARACTERS = 32_768  # a quarter of Linux' limit on one argument (128 KiB); a chat template needs 2,000


class Device(StrEnum):
    """What the engine computes on."""

    CPU = "cpu"
    CUDA = "cuda"


class EngineArgumentError(ValueError):
    """An engine argument or variable was refused; the message lists every one of them."""


@dataclass(frozen=True)
class EngineHost:
    """The machine that an engine runs on.

    Attributes:
        python: Interpreter of the engine's environment.
        device: What the engine computes on.
        threads: OpenMP threads of one engine on the CPU.
    """

    python: Path
    device: Device = Device.CPU
    threads: int = 1


@dataclass(frozen=True)
class EngineSpec:
    """One server to start.

    Attributes:
        engine: Which engine.
        model_path: Hugging Face folder.
        served_name: Model name that clients ask for.
        port: TCP port on the loopback address.
        arguments: The engine's own long options without the dashes.
        env: Variables that the document adds.
    """

    engine: EngineName
    model_path: Path
    served_name: str
    port: int
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineCommand:
    """How to start one server: argument vector from the interpreter on, and the variables to add."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class Engine(Protocol):
    """One inference engine."""

    reserved: frozenset[str]
    """Options that Nexus sets itself."""

    def command(self, spec: EngineSpec, host: EngineHost) -> EngineCommand:
        """Return how to start the server.

        Raises:
            EngineArgumentError: An argument or variable was refused.
        """

    def options(self, arguments: Mapping[str, ArgumentValue]) -> list[str]:
        """Return a document's arguments as command line options, in sorted order, each in one `--name=value` string."""


def server_argv(
    spec: EngineSpec, host: EngineHost, module: str, *, model_option: str, options: Sequence[str]
) -> tuple[str, ...]:
    """Return the argument vector of a server that is started as a Python module and listens on the loopback address.

    Args:
        spec: What to serve.
        host: Where.
        module: The server's module.
        model_option: Name of the option that takes the model's folder.
        options: The document's own options.
    """
    return (
        str(host.python),
        "-m",
        module,
        "--host=127.0.0.1",
        f"--port={spec.port}",
        f"--{model_option}={spec.model_path}",
        f"--served-model-name={spec.served_name}",
        *options,
    )


def dashed(arguments: Mapping[str, ArgumentValue]) -> dict[str, ArgumentValue]:
    """Spell options the way command lines do; documents may use underscores."""
    return {name.replace("_", "-"): value for name, value in arguments.items()}


def check_arguments(spec: EngineSpec, reserved: frozenset[str]) -> None:
    """Refuse arguments and variables that are malformed, or that would override what Nexus sets.

    Unknown options are not refused: the engine knows its own, and says so within seconds.

    Raises:
        EngineArgumentError: With every problem, one a line.
    """
    problems = [*_argument_problems(spec.arguments, reserved), *_variable_problems(spec.env)]
    if problems:
        raise EngineArgumentError("\n".join(problems))


def _argument_problems(arguments: Mapping[str, ArgumentValue], reserved: frozenset[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for key, value in arguments.items():
        where = f"engine.arguments.{key}"
        name = key.replace("_", "-")
        if not _OPTION.fullmatch(key):
            yield f"{where}: expected a long option without its dashes such as max-model-len; got {key!r}"
            continue
        if name in seen:
            yield f"{where}: expected each option once; got it again as {seen[name]!r}"
        seen[name] = key
        # argparse accepts unambiguous beginnings, so `por` would be `--port`.
        taken = sorted(option for option in reserved if option.startswith(name.split(".", 1)[0]))
        if taken:
            yield f"{where}: expected an option that Nexus does not set itself; got {taken[0]!r}: remove it"
        yield from _value_problems(where, value)


def _value_problems(where: str, value: ArgumentValue) -> Iterator[str]:
    text = str(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        yield f"{where}: expected one line without control characters; got {text[:40]!r}: write it on one line"
    if text.startswith("--"):
        yield f"{where}: expected a value; got {text[:40]!r}, which starts like an option: give each option its own key"
    if len(text) > _MAX_VALUE_CHARACTERS:
        yield f"{where}: expected at most {_MAX_VALUE_CHARACTERS} characters; got {len(text)}: put it into a file"


def _variable_problems(env: Mapping[str, str]) -> Iterator[str]:
    for key, value in env.items():
        where = f"engine.env.{key}"
        if not _VARIABLE.fullmatch(key):
            yield f"{where}: expected a variable name; got {key!r}"
        elif key.startswith("NEXUS_"):
            yield f"{where}: expected a variable of the engine; NEXUS_* are Nexus' own: remove it"
        if "\0" in value or "\n" in value:
            yield f"{where}: expected one line; got {value[:40]!r}"
