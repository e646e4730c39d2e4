"""Process settings of the provider adapter (`NEXUS_ADAPTER_*`), and the environment that LiteLLM is loaded in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings import refuse_unknown

PREFIX: Final = "NEXUS_ADAPTER_"

_LITELLM_ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env file of the working directory
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it downloads prices while it is imported
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # else it downloads them with the first call to Anthropic
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOG": "ERROR",
    "DEFAULT_MAX_RETRIES": "0",  # the gateway retries, within its budget; embeddings would take 0 for "the default"
}


class AdapterSettings(BaseSettings):
    """Where the adapter listens, which providers it may call, and the bounds of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    socket: Path = Field(description="Unix socket to listen on; only the own user may connect.")
    providers_file: Path = Field(description="YAML document of the providers that may be called.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Lowest level logged.")
    max_body_bytes: int = Field(default=33_554_432, ge=1024, description="Largest request.")
    max_seconds: float = Field(
        default=600.0, gt=0, description="Longest call, also where the gateway's deadline is later or absent."
    )
    shutdown_grace_seconds: int = Field(default=30, ge=0, description="How long calls in flight may finish.")

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            UnknownSettingError: A `NEXUS_ADAPTER_*` variable is misspelt; extra variables are never ignored.
            pydantic.ValidationError: A value is missing or out of range.
        """
        refuse_unknown(cls)
        return cls()  # type: ignore[call-arg]  # the environment gives what has no default


def prepare_environment() -> None:
    """Set what LiteLLM reads while it is imported: no network, no .env file, no retries of its own."""
    os.environ.update(_LITELLM_ENVIRONMENT)  # noqa: TID251 - settings module


def secrets_of_environment() -> tuple[str, ...]:
    """Return values of variables that name a key, token or secret, so that no message repeats one."""
    marks = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
    named = (value for name, value in os.environ.items() if any(mark in name.upper() for mark in marks))  # noqa: TID251
    return tuple(sorted({value for value in named if len(value) >= 8}, key=len, reverse=True))
