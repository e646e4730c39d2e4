"""Names of every metric that more than one part knows: the gateway writes them, alerts and dashboards read them.

Form: `nexus_<part>_<thing>_<base unit>[_total]` (HOUSE-STYLE 4). Prometheus' client adds `_total` to counters itself.
"""

from __future__ import annotations

from typing import Final

GATEWAY_REQUESTS: Final = "nexus_gateway_requests_total"
"""Requests answered; labels model, side (`none` before a side is chosen), status_class (2xx, 4xx, 5xx, client_gone)."""

GATEWAY_REQUEST_DURATION: Final = "nexus_gateway_request_duration_seconds"
"""From the request's arrival to the answer's last byte; labels model, side."""

GATEWAY_TIME_TO_FIRST_TOKEN: Final = "nexus_gateway_time_to_first_token_seconds"  # noqa: S105 - a metric's name
"""From the request's arrival to the first chunk with content, streamed answers only; labels model, side."""

GATEWAY_REQUESTS_IN_FLIGHT: Final = "nexus_gateway_requests_in_flight"
"""Requests received and not yet answered in full."""

GATEWAY_SNAPSHOT_INFO: Final = "nexus_gateway_snapshot_info"
"""1 for the revision that requests are answered by; label revision (`none` before the first)."""

GATEWAY_RELOADS: Final = "nexus_gateway_reloads_total"
"""Snapshots put in place."""

GATEWAY_RELOAD_FAILURES: Final = "nexus_gateway_reload_failures_total"
"""Documents refused; the last good ones stay; label source (policy, endpoints)."""

GATEWAY_SPLIT_DIVERTED: Final = "nexus_gateway_split_diverted_total"
"""Requests whose own side had no ready service and that another side answered; labels model, side (the absent one)."""

GATEWAY_UPSTREAM_FAILURES: Final = "nexus_gateway_upstream_failures_total"
"""Calls to a service that failed; labels service, kind (an error code of the gateway)."""

GATEWAY_UPSTREAM_STALE_RETRIES: Final = "nexus_gateway_upstream_stale_retries_total"
"""Requests sent again because a pooled connection had been closed before a byte of answer."""

GATEWAY_OBSERVATIONS_WRITTEN: Final = "nexus_gateway_observations_written_total"
"""Observations that are on disk."""

GATEWAY_OBSERVATIONS_DROPPED: Final = "nexus_gateway_observations_dropped_total"
"""Observations lost because the spool's queue was full."""

GATEWAY_SPOOL_WRITE_FAILURES: Final = "nexus_gateway_spool_write_failures_total"
"""Batches that could not be written (disk full, for example); they are tried again."""

GATEWAY_SPOOL_QUEUED: Final = "nexus_gateway_spool_queued"
"""Observations waiting to be written."""
