"""What git is run with."""

from __future__ import annotations

import pytest

from serving.git_command import run_git


def test_git_and_its_hooks_are_not_told_the_callers_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in NEXUS_API_KEY is for the gateway alone; the rest of the environment is handed on."""
    monkeypatch.setenv("NEXUS_API_KEY", "nx_mine")
    monkeypatch.setenv("NEXUS_ENGINE_THREADS", "3")
    lines = run_git("-c", "alias.environment=!env", "environment").splitlines()
    assert "NEXUS_ENGINE_THREADS=3" in lines
    assert "nx_mine" not in "\n".join(lines)
