"""Settings: what is wrong is named as the user wrote it, and the home does not depend on the working folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving.settings import NexusSettings, SettingsError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NEXUS_")]:  # noqa: TID251 - cleared for the test
        monkeypatch.delenv(name)


def test_wrong_values_name_variable_expectation_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once, in the variables' names and without a library's words."""
    monkeypatch.setenv("NEXUS_GATEWAY_PORT", "abc")
    monkeypatch.setenv("NEXUS_ENGINE_THREADS", "0")
    with pytest.raises(SettingsError) as caught:
        NexusSettings.load()
    port, threads = str(caught.value).splitlines()
    assert port.startswith("NEXUS_GATEWAY_PORT (Port of the gateway")
    assert "expected a valid integer" in port
    assert "got 'abc': correct or unset it" in port
    assert threads.startswith("NEXUS_ENGINE_THREADS")
    assert "greater than or equal to 1; got '0'" in threads
    assert "pydantic" not in str(caught.value)


def test_misspelt_name_is_told_its_neighbour_and_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what was probably meant, and lists every setting."""
    monkeypatch.setenv("NEXUS_HOM", "x")
    monkeypatch.setenv("NEXUS_BENCH_X", "x")
    with pytest.raises(SettingsError) as caught:
        NexusSettings.load()
    text = str(caught.value)
    assert "NEXUS_HOM names no setting: did you mean NEXUS_HOME?" in text
    assert "NEXUS_BENCH_X names no setting" in text
    assert all(f"NEXUS_{name.upper()}" in text for name in NexusSettings.model_fields)
    assert "NEXUS_GATEWAY_WORKERS" in text


def test_home_is_the_installations_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another working folder is not another world."""
    environment = tmp_path / "world" / "envs" / "core"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "prefix", str(environment))
    assert NexusSettings.load().home == tmp_path / "world"
    monkeypatch.setenv("NEXUS_HOME", "here")
    assert NexusSettings.load().home == tmp_path / "elsewhere" / "here"
    monkeypatch.delenv("NEXUS_HOME")
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert NexusSettings.load().home == tmp_path / "elsewhere" / ".nexus"
