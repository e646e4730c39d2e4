"""A tool's environment is found, or the command that installs it is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.quantize_model.errors import RecipeError
from components.quantize_model.tools import interpreter, versions
from serving.settings import NexusSettings


@pytest.fixture
def settings(tmp_path: Path) -> NexusSettings:
    return NexusSettings(home=tmp_path)


def make_environment(settings: NexusSettings, name: str, packages: dict[str, str]) -> None:
    folder = settings.environment_dir(name)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    for package, version in packages.items():
        info = folder / "lib" / "python3.11" / "site-packages" / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def test_own_environment_is_the_running_one(settings: NexusSettings) -> None:
    """No name means this interpreter, whatever the home holds."""
    assert interpreter(settings, None) == Path(sys.executable)
    assert versions(settings, None, ["pydantic"])["pydantic"]


def test_versions_come_from_the_tools_environment(settings: NexusSettings) -> None:
    """The foreign environment's version is read, not ours of the same name."""
    make_environment(settings, "autogptq", {"auto-gptq": "0.7.1", "pydantic": "0.0.1"})
    found = versions(settings, "autogptq", ["auto-gptq", "pydantic"])
    assert found == {"auto-gptq": "0.7.1", "pydantic": "0.0.1"}


def test_missing_environment_names_the_command(settings: NexusSettings) -> None:
    """A recipe whose tool is not installed fails with the way to install it."""
    with pytest.raises(RecipeError, match="run `nexus install autogptq`"):
        versions(settings, "autogptq", ["auto-gptq"])


def test_half_installed_environment_names_the_command(settings: NexusSettings) -> None:
    """An environment without the tool itself counts as not installed."""
    make_environment(settings, "gptqmodel", {})
    with pytest.raises(RecipeError, match=r"package gptqmodel .* run `nexus install gptqmodel`"):
        versions(settings, "gptqmodel", ["gptqmodel"])
