"""`python -m gateway`: read the settings, build the application, serve it.

Exit codes: 0 stopped as asked, 2 settings or address cannot be used, 3 the application could not start.
"""

from __future__ import annotations

import gc
import sys

from pydantic import ValidationError

from gateway.app import create_app
from gateway.server import ListenError, listen, run_server
from gateway.settings import GatewaySettings, UnknownSettingError
from gateway.telemetry.logging import configure_logging

_SWITCH_SECONDS = 0.001
"""How long a thread that parses documents may hold the interpreter while a request waits (Python's default is 5 ms)."""


def main() -> int:
    """Run the gateway; returns the process's exit code."""
    try:
        settings = GatewaySettings.load()
        sock = listen(settings)
    except (UnknownSettingError, ValidationError, ListenError) as exc:
        sys.stderr.write(f"gateway: {exc}\n")
        return 2
    configure_logging(settings.log_level)
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # modules and classes live as long as the process: collections need not look at them
    run_server(app, settings, sock)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
