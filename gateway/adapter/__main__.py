"""`python -m gateway.adapter`: read settings and providers, load LiteLLM, serve a unix socket.

Exit codes: 0 stopped as asked, 2 settings, document or socket cannot be used.
"""

from __future__ import annotations

import signal
import socket
import stat
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from pydantic import ValidationError

from gateway.adapter.app import Adapter
from gateway.adapter.library import load_litellm
from gateway.adapter.providers import Providers
from gateway.adapter.settings import AdapterSettings
from gateway.settings import UnknownSettingError
from gateway.telemetry.logging import configure_logging
from serving.contracts.load import DocumentError

_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the gateway keeps an idle connection, so that it is never the adapter that closes one in use."""


def main() -> int:
    """Run the adapter; returns the process's exit code."""
    try:
        settings = AdapterSettings.load()
        providers = Providers.load(settings.providers_file)
        configure_logging(settings.log_level)
        litellm = load_litellm()
        sock = listen(settings.socket)  # last: who can connect is answered
    except (UnknownSettingError, ValidationError, DocumentError, OSError) as exc:
        sys.stderr.write(f"adapter: {exc}\n")
        return 2
    config = uvicorn.Config(
        Adapter(litellm, providers, settings),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    uvicorn.Server(config).run(sockets=[sock])
    return 0


def listen(path: Path) -> socket.socket:
    """Open the socket for the own user alone; one that an ended process left behind is replaced.

    Raises:
        OSError: A living process listens there, something else lies there, or the folder cannot be written to.
    """
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(f"expected a socket or nothing at {path}; got something else: set NEXUS_ADAPTER_SOCKET")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(f"expected nobody to listen on {path}; a process does: stop it first")
    sock = socket.socket(socket.AF_UNIX)
    try:
        # Bound under another name and moved: nobody can connect before the mode is set.
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        sock.listen()
        fresh.replace(path)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
