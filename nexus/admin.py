"""Speak to the gateway's admin API; the standard library's HTTP client is enough for one request at a time."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from nexus.direct_http import bearer, open_direct
from serving.contracts.admin_api import (
    IssuedKey,
    IssueKey,
    KeyList,
    KeyView,
    RestoredKeys,
    RotateKey,
)
from serving.settings import NexusSettings

_TIMEOUT_SECONDS = 30
_MAX_ANSWER_BYTES = 16 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)


class AdminError(Exception):
    """The admin API could not be reached, or failed; the message holds no credential."""


class AdminOrderError(AdminError):
    """It refused what was asked for: an unknown tenant or key, or a value out of bounds."""


class AdminTokenError(AdminError):
    """It refused the token."""


class AdminClient:
    """One gateway's admin API.

    Args:
        url: Its address, such as http://127.0.0.1:8081.
        token: The admin token, or an API key of scope admin.
    """

    def __init__(self, url: str, token: SecretStr) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._opener = open_direct()

    def __repr__(self) -> str:
        return f"AdminClient({self._url!r})"

    def issue(self, order: IssueKey) -> IssuedKey:
        """Make a key; its credential is in what is returned and nowhere else."""
        return self._call("POST", "/keys", IssuedKey, order)

    def keys(self, tenant: str | None = None) -> Iterator[KeyView]:
        """Yield keys, the newest first."""
        after: str | None = None
        while True:
            query = {"limit": "1000", "tenant": tenant, "after": after}
            text = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
            page = self._call("GET", f"/keys?{text}", KeyList)
            yield from page.keys
            after = page.after
            if after is None:
                return

    def rotate(self, key_id: str, order: RotateKey) -> IssuedKey:
        """Make a key that replaces another, which is accepted for a while more."""
        return self._call("POST", f"/keys/{urllib.parse.quote(key_id, safe='')}/rotate", IssuedKey, order)

    def revoke(self, key_id: str) -> KeyView:
        """End a key for good, in every gateway within a second."""
        return self._call("POST", f"/keys/{urllib.parse.quote(key_id, safe='')}/revoke", KeyView)

    def restore(self) -> int:
        """Write the gateway's keys into a Redis that has lost them; returns how many it did not hold so."""
        return self._call("POST", "/keys/restore", RestoredKeys).restored

    def _call(self, method: str, path: str, answer: type[ModelT], body: BaseModel | None = None) -> ModelT:
        data = None if method == "GET" else (b"" if body is None else body.model_dump_json().encode())
        headers = {"content-type": "application/json", **bearer(self._token, "admin token")}
        try:
            request = urllib.request.Request(f"{self._url}/admin/v1{path}", data, headers, method=method)  # noqa: S310
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                return answer.model_validate_json(response.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as exc:
            raise self._refusal(exc) from exc
        except ValidationError as exc:
            raise AdminError(f"expected the admin API at {self._url}; something else answers there") from exc
        except http.client.HTTPException as exc:
            raise AdminError(
                f"expected the admin API at {self._url}; got no whole answer in HTTP ({type(exc).__name__})"
            ) from exc
        except (OSError, ValueError) as exc:
            raise AdminError(
                f"expected the gateway's admin API at {self._url}; got {exc}: start the gateway, or name it with --url"
            ) from exc

    def _refusal(self, answer: urllib.error.HTTPError) -> AdminError:
        try:
            reason = str(json.loads(answer.read(_MAX_ANSWER_BYTES))["error"]["message"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return AdminError(f"expected the admin API at {self._url}; something else answered {answer.code} there")
        if answer.code in {400, 404, 422}:
            return AdminOrderError(reason)
        if answer.code in {401, 403}:
            return AdminTokenError(f"{reason}: see NEXUS_GATEWAY_ADMIN_TOKEN_FILE")
        return AdminError(f"the gateway answered {answer.code}: {reason}")


def open_admin(settings: NexusSettings, url: str | None = None) -> AdminClient:
    """Return the client of this installation's gateway, or of another one's.

    Raises:
        AdminError: There is no admin token.
    """
    token = settings.gateway_admin_token
    if token is None:
        path = settings.admin_token_file
        try:
            token = SecretStr(path.read_text().strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise AdminError(
                f"expected the admin token in {path}; got {getattr(exc, 'strerror', None) or 'no text'}: "
                "`nexus up` makes it; NEXUS_GATEWAY_ADMIN_TOKEN or NEXUS_GATEWAY_ADMIN_TOKEN_FILE name another"
            ) from exc
    return AdminClient(url or f"http://127.0.0.1:{settings.gateway_admin_port}", token)
