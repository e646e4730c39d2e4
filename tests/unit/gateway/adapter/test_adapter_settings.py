from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.adapter.__main__ import listen
from gateway.adapter.settings import AdapterSettings, prepare_environment, secrets_of_environment
from gateway.settings import UnknownSettingError


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unknown and missing variables are errors that name them."""
    monkeypatch.setenv("NEXUS_ADAPTER_SOCKET", str(tmp_path / "s"))
    with pytest.raises(ValidationError, match="providers_file"):
        AdapterSettings.load()
    monkeypatch.setenv("NEXUS_ADAPTER_PROVIDERS_FILE", "x")
    assert AdapterSettings.load().max_seconds == 600
    monkeypatch.setenv("NEXUS_ADAPTER_SOKCET", "x")
    with pytest.raises(UnknownSettingError, match="SOKCET"):
        AdapterSettings.load()


def test_litellm_is_told_to_stay_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes LiteLLM download, read .env files or retry is set before it is imported, whatever was set before."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "False")
    for name in ("LITELLM_MODE", "DEFAULT_MAX_RETRIES", "LITELLM_LOG", "LITELLM_LOCAL_BLOG_POSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", raising=False)
    prepare_environment()
    import os  # noqa: PLC0415 - the test reads what the function set

    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"  # noqa: TID251
    assert os.environ["LITELLM_MODE"] == "PRODUCTION"  # noqa: TID251
    assert os.environ["DEFAULT_MAX_RETRIES"] == "0"  # noqa: TID251
    for name in ("LITELLM_MODE", "DEFAULT_MAX_RETRIES", "LITELLM_LOG", "LITELLM_LOCAL_BLOG_POSTS"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS")


def test_secrets_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of variables that name a secret are known, so that no message repeats one; short ones are no secret."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-long-enough")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "short")
    found = secrets_of_environment()
    assert "sk-long-enough" in found
    assert "short" not in found


def test_the_socket_is_the_users_alone(tmp_path: Path) -> None:
    """Nobody else may connect; a socket left behind is replaced, a living one and other files are not."""
    path = tmp_path / "adapter.sock"
    first = listen(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="a process does"):
        listen(path)
    first.close()
    listen(path).close()
    path.unlink()
    path.write_text("notes")
    with pytest.raises(OSError, match="something else"):
        listen(path)
    assert path.read_text() == "notes"
