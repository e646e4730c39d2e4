"""Names of the gateway's settings, for programs that hand the environment on to it and must not import it.

A test holds them against the gateway's own settings.
"""

from __future__ import annotations

from typing import Final

GATEWAY_PREFIX: Final = "NEXUS_GATEWAY_"

GATEWAY_VARIABLES: Final = frozenset(
    {
        "ADMIN_HOST",
        "ADMIN_PORT",
        "ADMIN_TOKEN",
        "ADMIN_TOKEN_FILE",
        "ENDPOINTS_FILE",
        "HEAD_TIMEOUT_SECONDS",
        "HOST",
        "KEEP_ALIVE_SECONDS",
        "KEY_PEPPER",
        "KEY_PEPPER_FILE",
        "LIMITS_TIMEOUT_SECONDS",
        "LOG_LEVEL",
        "MAX_ANSWER_BYTES",
        "MAX_EVENT_BYTES",
        "MAX_HEADERS",
        "MAX_HEADER_BYTES",
        "POLICY_DIR",
        "PORT",
        "PROVIDER_SOCKET",
        "REDIS_TIMEOUT_SECONDS",
        "REDIS_URL",
        "SHUTDOWN_GRACE_SECONDS",
        "SPOOL_DIR",
        "SPOOL_FILE_BYTES",
        "SPOOL_FLUSH_SECONDS",
        "SPOOL_QUEUE_BYTES",
        "UPSTREAM_IDLE_SECONDS",
        "WATCH_INTERVAL_SECONDS",
        "WORKERS",
    }
)
"""Without the prefix."""
