from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings

SECRET = "secret-that-nobody-may-see-0815-x"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_GATEWAY_POLICY_DIR", str(tmp_path))
    monkeypatch.setenv("NEXUS_GATEWAY_SPOOL_DIR", str(tmp_path / "spool"))


def read(settings: GatewaySettings, name: str) -> str | None:
    """Return a secret as the gateway reads it; peppers in lines."""
    if name == "ADMIN_TOKEN":
        token = settings.read_admin_token()
        return None if token is None else token.get_secret_value()
    return "\n".join(pepper.get_secret_value() for pepper in settings.read_key_peppers()) or None


@pytest.mark.parametrize("name", ["KEY_PEPPER", "ADMIN_TOKEN"])
def test_a_secret_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Either place gives the same secret, a file's line end is not part of it, and neither is shown."""
    assert read(GatewaySettings.load(), name) is None
    monkeypatch.setenv(f"NEXUS_GATEWAY_{name}", SECRET)
    settings = GatewaySettings.load()
    assert read(settings, name) == SECRET
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.delenv(f"NEXUS_GATEWAY_{name}")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv(f"NEXUS_GATEWAY_{name}_FILE", str(tmp_path / "secret"))
    assert read(GatewaySettings.load(), name) == SECRET


def test_peppers_stand_in_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first line is the pepper of new keys; blanks within are part of a pepper, around it are not."""
    (tmp_path / "peppers").write_text(f" new {SECRET}\r\n{SECRET}\n")
    monkeypatch.setenv("NEXUS_GATEWAY_KEY_PEPPER_FILE", str(tmp_path / "peppers"))
    assert read(GatewaySettings.load(), "KEY_PEPPER") == f"new {SECRET}\n{SECRET}"


@pytest.mark.parametrize("second", [SECRET[:31], "", "0815"])
def test_each_pepper_is_long_enough(monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    """One that is too short is refused wherever it stands, without being shown."""
    monkeypatch.setenv("NEXUS_GATEWAY_KEY_PEPPER", f"{SECRET}\n{second}\n{SECRET}")
    with pytest.raises(ValidationError, match=f"at least 32 characters; got {len(second)}") as refused:
        GatewaySettings.load()
    assert "0815" not in str(refused.value)


@pytest.mark.parametrize("name", ["KEY_PEPPER", "ADMIN_TOKEN"])
@pytest.mark.parametrize(
    ("value", "content", "reason"),
    [
        (SECRET, SECRET, "got both"),
        (SECRET[:31], None, "at least 32 characters; got 31"),
        ("", None, "at least 32 characters; got 0"),
        (None, SECRET[:31], "at least 32 characters; got 31"),
        (None, b"\xff" * 40, "not UTF-8"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str | None,
    content: str | bytes | None,
    reason: str,
) -> None:
    """Two places, too short, or no text: the error says which, and holds no part of the secret or of others."""
    monkeypatch.setenv("NEXUS_GATEWAY_REDIS_URL", "redis://:password-0815@host/0")
    if value is not None:
        monkeypatch.setenv(f"NEXUS_GATEWAY_{name}", value)
    if content is not None:
        (tmp_path / "secret").write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv(f"NEXUS_GATEWAY_{name}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ValidationError, match=reason) as refused:
        GatewaySettings.load()
    shown = "".join(traceback.format_exception(refused.value))
    assert "0815" not in shown
    assert "secret-that" not in shown


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the file and what is wrong with it."""
    monkeypatch.setenv("NEXUS_GATEWAY_KEY_PEPPER_FILE", str(tmp_path / "none"))
    with pytest.raises(ValidationError, match="none: No such file or directory"):
        GatewaySettings.load()
