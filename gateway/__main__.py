"""`python -m gateway`: read the settings, build the application, serve it; with several workers, be their parent.

Exit codes: 0 stopped as asked, 2 settings or address cannot be used, 3 the application could not start.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import Final

from pydantic import ValidationError

from gateway.app import create_app
from gateway.peers import ALONE, Place
from gateway.server import ListenError, listen, run_server
from gateway.settings import GatewaySettings, UnknownSettingError
from gateway.telemetry.logging import configure_logging
from gateway.workers import READY, adopt, run_workers, stop_with_parent

_SWITCH_SECONDS: Final = 0.001
"""How long a thread that parses documents may hold the interpreter while a request waits (Python's default is 5 ms)."""

_COLLECTIONS: Final = (20_000, 20, 50)
"""Requests leave next to no cycles: looking for them after every 700 objects, as Python does, frees next to nothing."""

_WORKER_ARGUMENT: Final = "--worker"
"""`--worker INDEX LISTEN_FD CONTROL_FD`: given by the parent only."""


def main(arguments: list[str]) -> int:
    """Run the gateway; returns the process's exit code."""
    try:
        settings = GatewaySettings.load()
        configure_logging(settings.log_level)
        if arguments and arguments[0] == _WORKER_ARGUMENT:
            index, listen_fd, control_fd = map(int, arguments[1:])
            sock, control, name = adopt(listen_fd, control_fd)
            return _serve(settings, sock, control, Place(index, settings.workers, name))
        if settings.workers > 1:
            return run_workers(settings)
        return _serve(settings, listen(settings.host, settings.port, shared=False))
    except (UnknownSettingError, ValidationError, ListenError) as exc:
        sys.stderr.write(f"gateway: {exc}\n")
        return 2


def _serve(
    settings: GatewaySettings, sock: socket.socket, control: socket.socket | None = None, place: Place = ALONE
) -> int:
    def ready() -> None:
        if control is not None:
            control.send(READY)
            asyncio.get_running_loop().add_reader(control, stop_with_parent, control)

    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(settings, place)
    gc.collect()
    gc.set_threshold(*_COLLECTIONS)
    gc.freeze()  # modules and classes live as long as the process: collections need not look at them
    run_server(app, settings, sock, ready)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
