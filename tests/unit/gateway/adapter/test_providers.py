from __future__ import annotations

from pathlib import Path

import pytest

from gateway.adapter.providers import Providers
from gateway.errors import InvalidRequestError
from serving.contracts.load import DocumentError


def load(tmp_path: Path, providers: str) -> Providers:
    path = tmp_path / "providers.yaml"
    path.write_text(f"kind: Providers\nmetadata: {{name: providers}}\nspec: {{providers: {providers}}}\n")
    return Providers.load(path)


def test_a_key_file_is_read_for_each_call(tmp_path: Path) -> None:
    """A key that is rotated is used from the next call on."""
    key = tmp_path / "key"
    key.write_text("first-key\n")
    providers = load(tmp_path, f"[{{name: openai, base_url: 'http://127.0.0.1:1/v1', api_key_file: {key}}}]")
    assert providers.of("openai/gpt-4o").arguments() == {"api_base": "http://127.0.0.1:1/v1", "api_key": "first-key"}
    key.write_text("other-key")
    assert providers.of("openai/org/gpt").arguments()["api_key"] == "other-key"
    assert providers.secrets() == ("other-key",)
    assert providers.problems() == ()
    key.unlink()
    assert providers.problems() == ("provider openai: its api_key_file cannot be read (No such file or directory)",)
    assert providers.secrets() == ()


def test_without_a_file_litellm_finds_the_key(tmp_path: Path) -> None:
    """Nothing is passed that would stand in the way of the provider's own variables."""
    assert load(tmp_path, "[{name: bedrock}]").of("bedrock/anthropic.claude").arguments() == {}


@pytest.mark.parametrize("model", ["gpt-4o", "cohere/x", "openai/", "/x", "OpenAI/x", "openai", "anthropic"])
def test_other_providers_are_refused(tmp_path: Path, model: str) -> None:
    """A model whose provider is not listed, or that names none, is refused; the message lists those that are."""
    with pytest.raises(InvalidRequestError, match="provider of openai"):
        load(tmp_path, "[{name: openai}]").of(model)


@pytest.mark.parametrize(
    "text", ["[]", "[{name: openai}, {name: openai}]", "[{name: Open/AI}]", "[{name: a, api_key: x}]",
             "[{name: a, base_url: 'file:///etc'}]"],
)  # fmt: skip
def test_a_broken_document_is_refused(tmp_path: Path, text: str) -> None:
    """Nothing listed, listed twice, malformed, and above all a key in the document are errors."""
    with pytest.raises(DocumentError):
        load(tmp_path, text)
