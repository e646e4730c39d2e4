from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import POLICY, START_SECONDS, GatewayProcess, free_port
from tests.fakes.jwks_server import JwksServer
from tests.fakes.redis_process import RedisProcess
from tests.fakes.token_issuer import AUDIENCE, ISSUER, TokenIssuer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

PEPPER = "pepper-for-tests-" * 3
TOKEN = "admin-token-for-tests-" * 2
AUTHENTICATION = """  authentication:
    required: true
    jwt:
      - {issuer: "%s", audience: %s, algorithms: [ES256], jwks_url: "%s/jwks"}
  tenants: [{name: acme, models: [m]}, {name: other, models: [x]}]
"""


class Guarded(GatewayProcess):
    """Two workers with keys on a real Redis, an issuer, and the admin API."""

    def __init__(self, root: Path, engine: FakeUpstream, redis: RedisProcess, issuer_url: str) -> None:
        self.admin_port = free_port()
        super().__init__(
            root, engine, WORKERS="2", REDIS_URL=redis.url, KEY_PEPPER=PEPPER,
            ADMIN_PORT=str(self.admin_port), ADMIN_TOKEN=TOKEN,
        )  # fmt: skip
        (root / "current/policy.yaml").write_text(POLICY + AUTHENTICATION % (ISSUER, AUDIENCE, issuer_url))

    def start(self) -> Guarded:
        """Wait for the admin API, too: the first worker serves it, and either may be ready first."""
        super().start()
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.admin("GET", "/keys")
            except ConnectionError:
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.02)
            else:
                return self

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
            connection.request(method, f"/admin/v1{path}", None if body is None else json.dumps(body), headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def ask(self, **headers: str) -> int:
        """Ask on a connection of its own, so that either worker may answer."""
        return self.post({}, **headers)[0]


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, issuer: TokenIssuer) -> Iterator[Guarded]:
    engine = FakeUpstream().start_in_thread()
    with RedisProcess() as redis, JwksServer(issuer.jwks) as jwks:
        process = Guarded(tmp_path_factory.mktemp("gateway"), engine, redis, jwks.url)
        try:
            yield process.start()
        finally:
            process.stop()
            engine.stop_thread()


def test_a_key_opens_the_gateway_until_it_is_revoked(gateway: Guarded) -> None:
    """With a key of the admin API either worker answers, and a second after its revocation neither does."""
    issued = gateway.admin("POST", "/keys", {"tenant": "acme", "name": "ci"})
    credential = issued["credential"]
    time.sleep(1)  # what is promised for other processes
    assert {gateway.ask(authorization=f"Bearer {credential}") for _ in range(20)} == {200}
    assert {gateway.ask(x_api_key=credential) for _ in range(5)} == {200}
    assert gateway.admin("POST", f"/keys/{issued['key']['id']}/revoke")["state"] == "revoked"
    time.sleep(1)
    assert {gateway.ask(authorization=f"Bearer {credential}") for _ in range(20)} == {401}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer sk-anything"}, 401),
        ({"authorization": "Basic dXNlcjpwYXNz"}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 401),
        ({"x_api_key": "nx_000000000000_000000000000000000000000000000000000"}, 401),
        ({"authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}, 401),
    ],
)
def test_nobody_else_enters(gateway: Guarded, headers: dict[str, str], status: int) -> None:
    """No credential, a wrong one, and the admin token are refused, and no engine is asked."""
    before = len(gateway.engine.requests)
    assert gateway.ask(**headers) == status
    assert len(gateway.engine.requests) == before


def test_two_credentials_of_one_header_are_refused(gateway: Guarded) -> None:
    """A header that stands twice is refused even when one of the two is right."""
    credential = gateway.admin("POST", "/keys", {"tenant": "acme", "name": "twice"})["credential"]
    time.sleep(1)
    header = f"authorization: Bearer {credential}\r\n"
    for headers in (header * 2, header + "authorization: Bearer x\r\n", header + "x-api-key: x\r\n"):
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{headers}content-length: 13\r\nconnection: close\r\n\r\n"
        )
        status = int(gateway.raw(head.encode() + b'{"model":"m"}').split(b" ")[1])
        assert status in {400, 401}


def test_tokens_open_the_gateway_for_their_tenant(gateway: Guarded, issuer: TokenIssuer) -> None:
    """A token of the issuer passes at either worker; a stranger's tenant and another tenant's model do not."""
    assert {gateway.ask(authorization=f"Bearer {issuer.mint()}") for _ in range(10)} == {200}
    assert gateway.ask(authorization=f"Bearer {issuer.mint(tenant='stranger')}") == 403
    assert gateway.ask(authorization=f"Bearer {issuer.mint(tenant='other')}") == 403
    assert gateway.ask(authorization=f"Bearer {issuer.mint(exp=1)}") == 401


def test_no_secret_is_in_anything_that_was_written(gateway: Guarded, issuer: TokenIssuer) -> None:
    """Neither log, spool, metrics nor snapshot hold a key, a token, the admin token or the pepper."""
    key = gateway.admin("POST", "/keys", {"tenant": "acme", "name": "grep"})["credential"]
    token = issuer.mint()
    for credential in (key, token, key[:-1], token[:-9]):
        gateway.ask(authorization=f"Bearer {credential}")
        gateway.ask(x_api_key=credential)
    written = [path.read_text() for path in [gateway.log, *gateway.spool.rglob("*.jsonl")]]
    shown = [gateway.get(path)[2].decode() for path in ("/metrics", "/health/ready", "/openapi.json")]
    shown += [json.dumps(gateway.admin("GET", path)) for path in ("/snapshot", "/keys", "/spend")]
    assert sum('"key.issue"' in text for text in written) == 1
    for text in written + shown:
        for secret in (key[16:40], token[-40:], token.split(".")[1], TOKEN, PEPPER):
            assert secret not in text
