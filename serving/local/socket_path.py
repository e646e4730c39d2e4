"""Where the unix sockets of a home's processes are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from serving.local.engine_host import scratch_folder
from serving.settings import NexusSettings

_MAX_BYTES: Final = 107  # sun_path of unix(7), without its final zero


def socket_path(settings: NexusSettings, name: str, *, room: int = 0) -> Path:
    """Return where a socket of this name is: below `run/`, for a home with a long path in its temporary folder.

    Args:
        settings: Of the home.
        name: File name.
        room: Bytes by which a path that its process also listens on is longer.

    Raises:
        EngineError: The temporary folder is another user's.
    """
    path = settings.run_dir / name
    if len(bytes(path)) + room <= _MAX_BYTES:
        return path
    return scratch_folder(settings) / name
