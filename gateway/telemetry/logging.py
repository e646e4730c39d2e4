"""Structured logs: one JSON object a line, so nothing a client sends can forge a line. Never prompt or answer text."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; `extra={"fields": {...}}` adds keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(level: str) -> None:
    """Send all loggers of the process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # uvicorn says "Invalid HTTP request received." for every stray byte; the refusals are answered and need no line.
    logging.getLogger("uvicorn.error").setLevel(max(logging.getLevelName(level), logging.WARNING))


class LogThrottle:
    """Lets through a few lines a second and says how many it kept back: an outage must not fill the disk.

    Args:
        logger: Where lines go.
        per_second: Lines let through in each second.
    """

    def __init__(self, logger: logging.Logger, per_second: int = 10) -> None:
        self._logger = logger
        self._per_second = per_second
        self._second = 0
        self._used = 0
        self._kept_back = 0

    def warning(self, message: str, fields: dict[str, Any]) -> None:
        """Log a warning if there is room for it."""
        self._log(logging.WARNING, message, fields)

    def exception(self, message: str, fields: dict[str, Any]) -> None:
        """Log the exception that is being handled if there is room for it."""
        self._log(logging.ERROR, message, fields, with_traceback=True)

    def _log(self, level: int, message: str, fields: dict[str, Any], *, with_traceback: bool = False) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._used = second, 0
        if self._used >= self._per_second:
            self._kept_back += 1
            return
        self._used += 1
        if self._kept_back:
            fields = fields | {"lines_kept_back": self._kept_back}
            self._kept_back = 0
        self._logger.log(level, message, exc_info=with_traceback, extra={"fields": fields})
