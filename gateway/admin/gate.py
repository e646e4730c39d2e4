"""AdminGate: who may use the admin API. Its own token, or an API key of scope admin; nobody else, for no path."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from typing import Final

from pydantic import SecretStr

from gateway.auth.credential import credential_headers, credential_of
from gateway.auth.key_store import KeyStore
from gateway.auth.refusals import MISSING, WRONG
from gateway.errors import ForbiddenError, NotReadyError, UnauthorizedError
from serving.contracts.admin_api import KeyScope

TOKEN_ACTOR: Final = "admin-token"  # noqa: S105 - a name in the audit log


class AdminGate:
    """Tells who asks.

    Args:
        token: The admin token; None for no such credential.
        keys: The API keys; None when there are none.
        clock: Seconds since 1970.
    """

    def __init__(self, token: SecretStr | None, keys: KeyStore | None, clock: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.get_secret_value().encode()
        self._keys = keys
        self._clock = clock

    def actor(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the name under which changes are recorded.

        Raises:
            UnauthorizedError: There is no credential, or a wrong one.
            ForbiddenError: The key is right and has not the scope.
            NotReadyError: Keys were never loaded, so none can be judged.
        """
        credential = credential_of(*credential_headers(headers))
        if credential is None:
            raise UnauthorizedError(MISSING)
        if self._token is not None and hmac.compare_digest(self._token, credential):
            return TOKEN_ACTOR
        if self._keys is None:
            raise UnauthorizedError(WRONG)
        if not self._keys.loaded:
            raise NotReadyError("expected to know API keys; they were never loaded: use the admin token, or try again")
        record = self._keys.ring.verify(credential, self._clock())
        if record is None:
            raise UnauthorizedError(WRONG)
        if KeyScope.ADMIN not in record.scopes:
            raise ForbiddenError("expected an API key of scope admin; got one without it")
        return f"key:{record.key_id}"
