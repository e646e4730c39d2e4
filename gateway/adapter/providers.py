"""The providers that may be called: a strict document, and the credential of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.errors import InvalidRequestError
from serving.contracts.base import API_VERSION, Metadata, StrictModel
from serving.contracts.load import load_document

ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$")]
"""LiteLLM's name of a provider, which stands before the first slash of a model: `openai`, `anthropic`, `bedrock`."""


class Provider(StrictModel):
    """One provider. Without `api_key_file` its credential is in the variables that LiteLLM names for it."""

    name: ProviderName
    base_url: str | None = Field(default=None, pattern=r"^https?://\S+$", description="Another address than its own.")
    api_key_file: Path | None = Field(
        default=None, description="File of its key, read for each call: a rotated key needs no restart."
    )

    def arguments(self) -> dict[str, Any]:
        """Return LiteLLM's arguments for a call to it.

        Raises:
            OSError: The file of its key cannot be read.
        """
        arguments: dict[str, Any] = {}
        if self.base_url is not None:
            arguments["api_base"] = self.base_url
        if self.api_key_file is not None:
            arguments["api_key"] = self.api_key_file.read_text(encoding="utf-8").strip()
        return arguments


class ProvidersBody(StrictModel):
    """Body of a document of providers."""

    providers: tuple[Provider, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [provider.name for provider in self.providers]
        if len(set(names)) != len(names):
            raise ValueError("expected each provider once; got one more than once")
        return self


class ProviderDocument(StrictModel):
    """`kind: Providers`."""

    apiVersion: Literal["nexus/v1alpha1"] = API_VERSION  # noqa: N815 - Kubernetes spelling
    kind: Literal["Providers"]
    metadata: Metadata
    spec: ProvidersBody


class Providers:
    """The providers by name."""

    def __init__(self, document: ProviderDocument) -> None:
        self._known = {provider.name: provider for provider in document.spec.providers}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the document.

        Raises:
            DocumentError: It is missing or broken; all problems are listed.
        """
        return cls(load_document(path, ProviderDocument))

    def __iter__(self) -> Any:
        return iter(self._known.values())

    def of(self, model: str) -> Provider:
        """Return the provider of a model such as `openai/gpt-4o`.

        Raises:
            InvalidRequestError: The document does not list it.
        """
        name, slash, rest = model.partition("/")
        provider = self._known.get(name)
        if provider is None or not slash or not rest:
            raise InvalidRequestError(
                f"expected `model` as provider/name with a provider of {', '.join(sorted(self._known))}; "
                f"got {model[:100]!r}",
                param="model",
            )
        return provider

    def problems(self) -> tuple[str, ...]:
        """Return one sentence for each provider whose credential cannot be read."""
        found = []
        for provider in self._known.values():
            try:
                provider.arguments()
            except OSError as exc:
                found.append(f"provider {provider.name}: its api_key_file cannot be read ({exc.strerror})")
        return tuple(found)

    def secrets(self) -> tuple[str, ...]:
        """Return the keys that can be read, so that no message repeats one."""
        keys = []
        for provider in self._known.values():
            try:
                keys.append(str(provider.arguments().get("api_key", "")))
            except OSError:
                continue
        return tuple(key for key in keys if len(key) >= 8)
