"""Gets issuers' key sets over HTTP: bounded in time and size, no redirects, no environment proxies."""

from __future__ import annotations

from typing import Final

import aiohttp

from gateway.auth.jwks import JwksError

_CONNECT_SECONDS: Final = 2.0
_TOTAL_SECONDS: Final = 5.0
_MAX_BYTES: Final = 262_144
"""A key takes some 2 kB with its certificates."""


class JwksClient:
    """One HTTP session, opened at the first fetch."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str) -> bytes:
        """Return a document.

        Raises:
            JwksError: It did not come whole, in time, with status 200 and within the size limit.
        """
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        try:
            async with self._session.get(url, allow_redirects=False, headers={"accept": "application/json"}) as answer:
                if answer.status != 200:
                    raise JwksError(f"expected status 200; got {answer.status}")
                body = bytearray()
                async for piece in answer.content.iter_chunked(65_536):
                    body += piece
                    if len(body) > _MAX_BYTES:
                        raise JwksError(f"expected at most {_MAX_BYTES} bytes; got more")
                return bytes(body)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise JwksError(f"expected an answer within {_TOTAL_SECONDS:g} s; got {type(exc).__name__}") from exc

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
