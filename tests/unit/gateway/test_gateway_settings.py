from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings, UnknownSettingError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_GATEWAY_POLICY_DIR", str(tmp_path))
    monkeypatch.setenv("NEXUS_GATEWAY_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings come from the environment, and one that is not there keeps its default."""
    monkeypatch.setenv("NEXUS_GATEWAY_PORT", "8181")
    settings = GatewaySettings.load()
    assert (settings.port, settings.policy_dir, settings.endpoints_file) == (8181, tmp_path, None)


@pytest.mark.parametrize("name", ["NEXUS_GATEWAY_PROT", "NEXUS_GATEWAY_", "nexus_gateway_prot"])
def test_a_misspelt_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An unknown variable with the gateway's prefix, in upper or lower case, is refused by its name."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(UnknownSettingError, match=f"{name}: correct or unset it"):
        GatewaySettings.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "0"), ("PORT", "http"), ("LOG_LEVEL", "LOUD"), ("UPSTREAM_IDLE_SECONDS", "0"), ("MAX_HEADERS", "1")],
)
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value outside its type or range is refused by its setting's name."""
    monkeypatch.setenv(f"NEXUS_GATEWAY_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        GatewaySettings.load()


def test_settings_never_change() -> None:
    """Assigning to a loaded setting is an error."""
    with pytest.raises(ValidationError, match="frozen"):
        GatewaySettings.load().port = 1  # type: ignore[misc]
