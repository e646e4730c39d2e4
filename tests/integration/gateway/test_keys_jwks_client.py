from __future__ import annotations

import pytest

from gateway.auth import jwks_client
from gateway.auth.jwks import JwksError
from gateway.auth.jwks_client import JwksClient
from tests.fakes.gateway_process import free_port
from tests.fakes.jwks_server import JwksServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]


async def test_key_sets_come_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document comes as it is; a redirect, an error, one too large, too slow, or nobody there is a refusal."""
    monkeypatch.setattr(jwks_client, "_TOTAL_SECONDS", 0.5)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    client = JwksClient()
    with JwksServer(lambda: b'{"keys":[]}') as server:
        assert await client(f"{server.url}/jwks") == b'{"keys":[]}'
        for path, reason in (
            ("/moved", "got 302"),
            ("/broken", "got 500"),
            ("/large", "at most 262144 bytes"),
            ("/slow", "TimeoutError"),
        ):
            with pytest.raises(JwksError, match=reason):
                await client(server.url + path)
        assert await client(f"{server.url}/jwks") == b'{"keys":[]}'
    with pytest.raises(JwksError, match="ClientConnector"):
        await client(f"http://127.0.0.1:{free_port()}/jwks")
    await client.close()
