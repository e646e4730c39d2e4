"""Ports: free ones are found, taken ones have an owner."""

from __future__ import annotations

import os
import socket

import pytest

from serving.local import ports
from serving.local.errors import NodeError


def test_taken_port_names_its_owner() -> None:
    """The message for a port in use can say who has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.owner_pid(port) == os.getpid()
        assert f"process {os.getpid()} (" in ports.owner(port)
    assert ports.is_free(port)
    assert ports.owner_pid(port) is None
    assert "cannot see" in ports.owner(port)


def test_free_port_avoids_taken_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is promised to an engine that has not bound it yet is not given again."""
    monkeypatch.setattr(ports, "is_free", lambda port: port % 2 == 0)
    odd = {port for port in range(20_000, 30_000) if port % 4 == 0}
    assert ports.free_port(odd) % 4 == 2


def test_no_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up instead of looking for ever."""
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    with pytest.raises(NodeError, match="free port"):
        ports.free_port()
