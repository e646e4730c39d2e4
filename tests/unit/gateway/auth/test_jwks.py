from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.jwks import KEEP_SECONDS, MIN_FETCH_SECONDS, REFRESH_SECONDS, Jwks, JwksError, parse_jwks
from serving.contracts.authentication import JwtIssuer
from tests.fakes.authentication import POLICY
from tests.fakes.token_issuer import TokenIssuer, jwk_of, rsa_key

ISSUER = JwtIssuer.model_validate(POLICY["authentication"]["jwt"][0])


class Cache:
    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.now = 1000.0
        self.issuer = TokenIssuer()
        self.outcomes: list[str] = []
        self.changes = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.jwks = Jwks(ISSUER, self._fetch, self.outcomes.append, self._changed, tasks=tasks, clock=lambda: self.now)

    async def _fetch(self, url: str) -> bytes:
        await self.gate.wait()
        return await self.issuer.fetch(url)

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with asyncio.TaskGroup() as tasks:
        yield Cache(tasks)


async def test_all_who_wait_share_one_fetch(cache: Cache) -> None:
    """A hundred requests for an unknown key are one question to the issuer, and all get the key."""
    cache.gate.clear()
    waiting = [asyncio.ensure_future(cache.jwks.look_up("ec")) for _ in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert cache.jwks.may_look_up("ec")
    cache.gate.set()
    found = await asyncio.gather(*waiting)
    assert cache.issuer.fetches == 1
    assert all(key is not None for key in found)


async def test_a_client_that_leaves_does_not_cancel_what_others_wait_for(cache: Cache) -> None:
    """The fetch goes on when the request that began it is cancelled."""
    cache.gate.clear()
    first, second = (asyncio.ensure_future(cache.jwks.look_up("ec")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    cache.gate.set()
    assert await second is not None
    assert cache.issuer.fetches == 1
    assert first.cancelled()


async def test_unknown_keys_cannot_make_it_ask_often(cache: Cache) -> None:
    """However many unknown key ids come, the issuer is asked once in the interval, and once a minute for each."""
    for number in range(500):
        assert await cache.jwks.look_up(f"kid{number}") is None
    assert cache.issuer.fetches == 1
    cache.now += MIN_FETCH_SECONDS
    assert not cache.jwks.may_look_up("kid0")
    assert await cache.jwks.look_up("kid0") is None
    assert cache.issuer.fetches == 1
    assert await cache.jwks.look_up("new") is None
    assert cache.issuer.fetches == 2


async def test_a_rotated_key_is_found_at_once_though_others_guess(cache: Cache) -> None:
    """A token with a key that the issuer has just added passes, though the same unknown id came again and again."""
    await cache.jwks.look_up("ec")
    cache.now += MIN_FETCH_SECONDS
    await cache.jwks.look_up("guess")
    cache.issuer.keys["ec2"] = (ec.generate_private_key(ec.SECP256R1()), "ES256")
    cache.now += MIN_FETCH_SECONDS
    for _ in range(10):
        await cache.jwks.look_up("guess")
    assert await cache.jwks.look_up("ec2") is not None


async def test_memory_of_unknown_ids_is_bounded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are remembered as unknown have a limit."""
    monkeypatch.setattr("gateway.auth.jwks._MAX_UNKNOWN", 10)
    for number in range(100):
        await cache.jwks.look_up(str(number))
    assert len(cache.jwks._unknown) <= 10


async def test_keys_stay_while_the_issuer_is_away_and_not_for_ever(cache: Cache) -> None:
    """An issuer that fails changes nothing for known keys for a day; it is shown, counted, and ends by itself."""
    await cache.jwks.refresh()
    cache.issuer.broken = True
    cache.now += REFRESH_SECONDS
    assert cache.jwks.stale
    await cache.jwks.refresh()
    assert not cache.jwks.stale
    assert cache.jwks.find("ec") is not None
    assert "last known keys stay in force" in cache.jwks.reasons[0]
    assert cache.outcomes == ["ok", "failed"]
    cache.now += KEEP_SECONDS
    assert cache.jwks.find("ec") is None
    assert "tokens are refused" in cache.jwks.reasons[0]
    cache.issuer.broken = False
    await cache.jwks.refresh()
    assert cache.jwks.find("ec") is not None
    assert cache.jwks.reasons == ()


async def test_a_withdrawn_key_is_refused_after_the_next_fetch(cache: Cache) -> None:
    """A key that the issuer has withdrawn is gone, and whoever remembers tokens is told."""
    await cache.jwks.refresh()
    cache.now += REFRESH_SECONDS
    await cache.jwks.refresh()
    assert cache.changes == 1
    del cache.issuer.keys["ec"]
    await cache.jwks.refresh()
    assert cache.jwks.find("ec") is None
    assert cache.changes == 2


async def test_a_fault_of_ours_is_a_failed_fetch(cache: Cache) -> None:
    """Any error of a fetch is counted and shown; it ends neither the request's task group nor later fetches."""

    async def fail(_: str) -> bytes:
        raise RuntimeError("bug")

    cache.issuer.fetch = fail  # type: ignore[method-assign]
    assert await cache.jwks.look_up("ec") is None
    assert cache.outcomes == ["failed"]
    assert "see its log" in cache.jwks.reasons[0]


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


PRIVATE = jwt.get_algorithm_by_name("ES256").to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True) | {
    "key_ops": ["verify"]
}
RSA = jwk_of(rsa_key(), "RS256", kid="a")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "something else"),
        (b"<html>", "something else"),
        (b"[]", "something else"),
        (b"{}", "something else"),
        (b'{"keys":{}}', "list of at most"),
        (b'{"keys":[]}', "got none"),
        (document(*[{}] * 101), "list of at most"),
        (document("a", 1, None, []), "got none"),
        (document({"kty": "oct", "k": "AAAA", "kid": "a", "alg": "HS256"}), "got none"),
        (document({**RSA, "kid": ""}), "got none"),
        (document({**RSA, "kid": 1}), "got none"),
        (document({name: value for name, value in RSA.items() if name != "kid"}), "got none"),
        (document({**RSA, "use": "enc"}), "got none"),
        (document({**RSA, "key_ops": ["encrypt"]}), "got none"),
        (document({**RSA, "alg": "RS512"}), "got none"),
        (document({**RSA, "alg": ["RS256"]}), "got none"),
        (document({**RSA, "kty": ["RSA"]}), "got none"),
        (document({**RSA, "n": "AQAB"}), "got none"),
        (document({**RSA, "n": "!"}), "got none"),
        (document({**RSA, "n": 5}), "got none"),
        (document({**PRIVATE, "kid": "a"}), "got none"),
        (document(jwk_of(rsa_key(1024), "RS256", kid="a")), "got none"),
        (document({"kty": "EC", "crv": "P-521", "kid": "a", "x": "AA", "y": "AA"}), "got none"),
        (document({"kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA"}), "got none"),
        (document(RSA, RSA), "each key id once"),
    ],
)
def test_what_is_no_usable_key_set_is_refused(raw: bytes, reason: str) -> None:
    """Shared secrets, private, weak, malformed, foreign and doubled keys are never used; a set without others fails."""
    with pytest.raises(JwksError, match=reason):
        parse_jwks(raw, ISSUER.algorithms)


def test_good_keys_pass_beside_bad_ones() -> None:
    """Keys that cannot be used are left out, and each other key is bound to its algorithms."""
    issuer = TokenIssuer()
    issuer.extra = [
        {"kty": "oct", "k": "AAAA", "kid": "shared"},
        {"kty": "new"},
        {**RSA, "kid": "pinned", "alg": "RS256"},
    ]
    keys = parse_jwks(issuer.jwks(), ISSUER.algorithms)
    assert {kid: set(key.algorithms) for kid, key in keys.items()} == {
        "rsa": {"RS256"}, "ec": {"ES256"}, "ed": {"EdDSA"}, "pinned": {"RS256"},
    }  # fmt: skip
