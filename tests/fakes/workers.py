"""The worker processes of a gateway with several."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.gateway_process import GatewayProcess


def workers_of(gateway: GatewayProcess) -> list[int]:
    """Return their process ids, the oldest first."""
    assert gateway.process is not None
    text = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]
