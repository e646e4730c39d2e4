"""One run with every credential there is, used rightly and wrongly: none of them is in anything that was written."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, whole
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess
from tests.fakes.token_issuer import ISSUER, TokenIssuer
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ISSUERS = [{"issuer": ISSUER, "audience": "nexus", "algorithms": ["ES256"], "jwks_url": "http://127.0.0.1:9/jwks"}]


def spellings(secret: str) -> list[bytes]:
    """The secret, its distinctive parts, and ways to write it."""
    raw = secret.encode()
    parts = [raw, raw[8:], raw[-24:], base64.b64encode(raw)[:-4], raw.hex().encode()]
    return [part for part in parts if len(part) >= 16]


def run(gateway: FullGateway, redis: RedisProcess, wrong: list[str], texts: list[str]) -> list[bytes]:
    """Use everything; return all that came back."""
    got: list[bytes] = []

    def keep(answer: tuple[int, dict[str, str], bytes]) -> None:
        got.append(repr(answer[1]).encode() + answer[2])

    bodies: list[dict[str, Any]] = [
        {"messages": texts}, {"model": "none"}, {"model": texts[0]}, {"user": texts[1]},
        {"fake": {"pieces": [whole("{}", 500)]}}, {"fake": {"pieces": [texts[0] + "\r\n\r\n"]}},
        {"fake": {"pieces": [], "end": "reset"}}, {"model": "twin", "messages": texts},
        {"stream": True, "fake": {"pieces": [STREAM_HEAD, chunk(event("a"))], "end": "reset"}},
    ]  # fmt: skip
    for body in bodies:
        keep(gateway.post(body, x_nexus_user=texts[1], x_shadow="yes"))
        keep(gateway.post(body, idempotency_key=texts[2]))
    for credential in wrong:
        keep(gateway.post({}, authorization=f"Bearer {credential}"))
        keep(gateway.post({}, authorization=credential))
        keep(gateway.post({}, authorization="", x_api_key=credential))
        keep(gateway.call("GET", f"/v1/models/{credential}", headers={"authorization": f"Basic {credential}"}))
        got.append(gateway.raw(b"GARBAGE " + credential.encode() + b"\r\n\r\n"))
    for path in ("/admin/v1/keys", "/admin/v1/snapshot", "/admin/v1/spend", "/nothing"):
        got.append(json.dumps(gateway.admin("GET", path)[1]).encode())
    redis.kill()
    keep(gateway.post({}))
    redis.start()
    wait_until(lambda: gateway.post({})[0] == 200)
    keep(gateway.get("/metrics"))
    keep(gateway.get("/health/ready"))
    return got


def test_no_credential_is_in_anything_that_a_run_writes(tmp_path: Path, engine: FakeUpstream) -> None:
    """Logs, observations, spans, errors, metrics, admin answers, Redis: no key, token, pepper or text of a request."""
    redis_password, text = secrets.token_hex(24), secrets.token_hex(16)
    server = RedisProcess("--requirepass", redis_password, persistent=True)
    server.client = Redis(port=server.port, password=redis_password, socket_timeout=5)
    with server as redis:
        pepper, admin_token = secrets.token_hex(24), secrets.token_hex(24)
        url = redis.url.replace("redis://", f"redis://:{redis_password}@")
        shadow = {"model": "twin", "fraction": 1.0, "match": {"headers": {"x-shadow": "yes"}}}
        policy = keyed_policy(
            {"name": "k", "scope": "key", "tokens_per_day": 100_000},
            {"name": "u", "scope": "user", "requests_per_minute": 10_000, "burst_requests": 1_000},
            tracing={"sample_fraction": 1.0},
        )
        policy["authentication"] |= {"jwt": ISSUERS}
        with full_gateway(
            tmp_path, engine, redis, route_text("m", shadow=shadow), routes={"twin": route_text("twin", "m-stable")},
            settings={"REDIS_URL": url, "KEY_PEPPER": pepper, "LOG_LEVEL": "DEBUG"}, **policy,
        ) as gateway:  # fmt: skip
            key = gateway.headers["authorization"].removeprefix("Bearer ")
            revoked = gateway.issue(name="revoked")
            _, listed = gateway.admin("GET", "/admin/v1/keys")
            gone = next(one["id"] for one in listed["keys"] if one["name"] == "revoked")
            assert gateway.admin("POST", f"/admin/v1/keys/{gone}/revoke")[0] == 200
            token = TokenIssuer().mint("ec")
            wrong = [revoked, key[:-1] + ("a" if key[-1] != "a" else "b"), token, token[:-4], admin_token]
            texts = [text, text[::-1], secrets.token_hex(16)]
            got = run(gateway, redis, wrong, texts)
            dump = b"".join(repr((name, redis.client.dump(name))).encode() for name in redis.client.scan_iter("*"))
            wait_until(lambda: len(list((gateway.spool / "spans").glob("*"))) > 0)
            gateway.stop()
            files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "user-hash.key"]
            shadows = [path for path in files if "shadows" in path.parts]
            aof = b"".join(path.read_bytes() for path in redis.folder.rglob("*") if path.is_file())
    everywhere = {str(path.relative_to(tmp_path)): path.read_bytes() for path in files if path.exists()}
    everywhere |= {"answers": b"\n".join(got), "redis": dump + aof}
    assert any(shadows)
    assert len(everywhere["gateway.log"]) > 1_000
    for secret in (key, *wrong, pepper):
        for where, written in everywhere.items():
            assert not any(one in written for one in spellings(secret)), where
    for where, written in everywhere.items():
        assert redis_password.encode() not in written, where
        kept = "shadows" in where or where in {"redis", "answers"}  # answers are kept for repeats, prompts never are
        if not kept:
            assert not any(one.encode() in written for one in texts), where
