"""Files by which the reconciler and its callers talk: the status it writes, and wishes to try failed services again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from serving.contracts.node_status import NodeStatus


class NodeFiles:
    """Files below a home's run folder."""

    def __init__(self, run_dir: Path) -> None:
        self.status = run_dir / "status.json"
        self.lock = run_dir / "reconciler.lock"
        self._retry = run_dir / "retry"
        self._taken: set[str] = set()

    def read_status(self) -> NodeStatus | None:
        """Read the newest status; None when there is none, or one of another version."""
        try:
            return NodeStatus.model_validate_json(self.status.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def ask_retry(self, names: Iterable[str]) -> None:
        """Wish that failed services are tried again now."""
        self._retry.mkdir(parents=True, exist_ok=True)
        for name in names:
            (self._retry / name).write_text(f"{time.time()}\n")

    def retry_waits(self, names: Iterable[str]) -> bool:
        """Return whether such a wish is not yet in a written status."""
        return any((self._retry / name).exists() for name in names)

    def take_retry(self) -> set[str]:
        """Read the wishes; they stay until `retry_done`, so that none is lost."""
        self._taken = {path.name for path in self._retry.iterdir()} if self._retry.is_dir() else set()
        return self._taken

    def retry_done(self) -> None:
        """Take the wishes away; the status that was written since shows what became of them."""
        for name in self._taken:
            (self._retry / name).unlink(missing_ok=True)
        self._taken = set()
