"""Names of every metric that more than one part knows: the gateway writes them, alerts and dashboards read them.

Form: `nexus_<part>_<thing>_<base unit>[_total]` (HOUSE-STYLE 4). Prometheus' client adds `_total` to counters itself.
"""

from __future__ import annotations

from typing import Final

GATEWAY_WORKERS: Final = "nexus_gateway_workers"
"""Processes that share the port, as set; all other metrics have a label worker where there are several."""

GATEWAY_WORKERS_SCRAPED: Final = "nexus_gateway_workers_scraped"
"""Those of them whose metrics are in this answer; the others are dead, starting, or did not answer in time."""

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

GATEWAY_SPOOL_WRITTEN: Final = "nexus_gateway_spool_lines_written_total"
"""Lines that are on disk; label spool (observations, spans, shadows)."""

GATEWAY_SPOOL_DROPPED: Final = "nexus_gateway_spool_lines_dropped_total"
"""Lines lost because the spool's queue was full; label spool."""

GATEWAY_SPOOL_WRITE_FAILURES: Final = "nexus_gateway_spool_write_failures_total"
"""Batches that could not be written (disk full, for example); they are tried again; label spool."""

GATEWAY_SPOOL_QUEUED: Final = "nexus_gateway_spool_lines_queued"
"""Lines waiting to be written; label spool."""

GATEWAY_ENDPOINT_RUNNING: Final = "nexus_gateway_endpoint_requests_running"
"""Requests under way at an endpoint; labels service, address."""

GATEWAY_ENDPOINT_QUEUED: Final = "nexus_gateway_endpoint_requests_queued"
"""Requests that wait for an endpoint; labels service, address."""

GATEWAY_ENDPOINT_LIMIT: Final = "nexus_gateway_endpoint_concurrency_limit"
"""Requests that may be under way at an endpoint, as it has adapted; labels service, address."""

GATEWAY_ENDPOINT_USABLE: Final = "nexus_gateway_endpoint_usable"
"""1 while new requests may go to an endpoint, 0 while it is drained, held back or ejected; labels service, address."""

GATEWAY_REFUSALS: Final = "nexus_gateway_refusals_total"
"""Requests answered with an error; label code (the error's)."""

GATEWAY_RETRIES: Final = "nexus_gateway_retries_total"
"""Second and later tries; label model."""

GATEWAY_SHADOWS: Final = "nexus_gateway_shadow_requests_total"
"""Copies of requests; labels model (the primary's), outcome (stored, failed, dropped)."""

GATEWAY_IDEMPOTENT: Final = "nexus_gateway_idempotent_requests_total"
"""Requests with an Idempotency-Key; label outcome (first, replayed). Those refused are in GATEWAY_REFUSALS."""

GATEWAY_KEYS: Final = "nexus_gateway_api_keys"
"""API keys that this process knows, those that have ended included."""

GATEWAY_KEYS_OUTDATED: Final = "nexus_gateway_api_keys_old_pepper"
"""API keys in force that are not hashed with the newest pepper yet; at 0 the others can go."""

GATEWAY_KEY_REFRESH_FAILURES: Final = "nexus_gateway_api_key_refresh_failures_total"
"""Looks for changed API keys that Redis did not answer; the last known ones stay in force."""

GATEWAY_AUTH_REFUSALS: Final = "nexus_gateway_auth_refusals_total"
"""Requests whose credential was refused; label reason (closed list in `gateway/auth/refusals.py`)."""

GATEWAY_JWKS_FETCHES: Final = "nexus_gateway_jwks_fetches_total"
"""Requests for issuers' keys; label outcome (ok, failed)."""

GATEWAY_LIMIT_DENIALS: Final = "nexus_gateway_limit_denials_total"
"""Requests refused by a limit; labels rule, limit (its field in the policy)."""

GATEWAY_LIMITED_WITHOUT_REDIS: Final = "nexus_gateway_limited_without_redis_total"
"""Requests with limits decided while Redis did not answer; label policy (allow, deny, local-share)."""

GATEWAY_LIMITS_REDIS_FAILURES: Final = "nexus_gateway_limits_redis_failures_total"
"""Attempts to use Redis for limits that failed."""

GATEWAY_LIMITS_BEGUN_ANEW: Final = "nexus_gateway_limits_begun_anew_total"
"""Times that Redis had lost a process' reservations, or had given it up."""

GATEWAY_LIMITS_UNSETTLED: Final = "nexus_gateway_limits_unsettled_total"
"""Entries of use that never reached Redis."""
