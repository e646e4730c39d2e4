"""Audit log: one line for each change somebody asks for, whether it came about or not. Never a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import GatewayError

log = logging.getLogger("gateway.audit")


class AuditLog:
    """Writes to the logger `gateway.audit`, at every log level that the gateway may have."""

    def __init__(self) -> None:
        log.setLevel(logging.INFO)

    @contextmanager
    def change(self, actor: str, action: str, subject: str | None, **details: object) -> Iterator[dict[str, object]]:
        """Record a change with its outcome.

        Args:
            actor: Who asks.
            action: What for, such as `key.revoke`.
            subject: Id of the key, or name of the service; None when it is not known yet.
            details: What else matters; nothing that is secret.

        Yields:
            Fields of the line; what becomes known meanwhile is added to them.
        """
        fields: dict[str, object] = {"actor": actor, "action": action, "subject": subject, **details}
        try:
            yield fields
        except GatewayError as exc:
            log.warning("refused", extra={"fields": fields | {"outcome": exc.code}})
            raise
        except BaseException as exc:
            log.error("failed", extra={"fields": fields | {"outcome": type(exc).__name__}})  # noqa: TRY400 - others log it
            raise
        log.info("changed", extra={"fields": fields | {"outcome": "ok"}})
