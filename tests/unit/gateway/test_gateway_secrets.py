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


@pytest.mark.parametrize(("name", "read"), [("KEY_PEPPER", "read_key_pepper"), ("ADMIN_TOKEN", "read_admin_token")])
def test_a_secret_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, read: str
) -> None:
    """Either place gives the same secret, a file's line end is not part of it, and neither is shown."""
    assert getattr(GatewaySettings.load(), read)() is None
    monkeypatch.setenv(f"NEXUS_GATEWAY_{name}", SECRET)
    settings = GatewaySettings.load()
    assert getattr(settings, read)().get_secret_value() == SECRET
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.delenv(f"NEXUS_GATEWAY_{name}")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv(f"NEXUS_GATEWAY_{name}_FILE", str(tmp_path / "secret"))
    assert getattr(GatewaySettings.load(), read)().get_secret_value() == SECRET


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
