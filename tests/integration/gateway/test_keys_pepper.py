from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.auth.key_format import key_digest
from gateway.auth.key_record import KeyRecord
from gateway.auth.key_scripts import KEYS
from serving.contracts.admin_api import IssueKey
from tests.fakes.key_gateway import KeyGateway, gateways
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

ORDER = IssueKey(tenant="acme", name="n")
OLD, MIDDLE, NEW = "old-pepper-" * 4, "middle-pepper-" * 4, "new-pepper-" * 4


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


def _held(redis: RedisProcess, key_id: str) -> KeyRecord:
    raw = redis.client.hget(KEYS[0], key_id)
    assert isinstance(raw, bytes)
    return KeyRecord.parse(raw)


def _newest(redis: RedisProcess) -> str:
    raw = redis.client.hget(KEYS[2], "pepper")
    assert isinstance(raw, bytes)
    return raw.decode().split(",")[-1]


async def test_a_pepper_is_rotated_without_voiding_a_key(redis: RedisProcess, tmp_path: Path) -> None:
    """By the guide's steps: added as the second, made the first, keys renewed by their use, the old one taken away."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        used, key = await before.manager.issue(ORDER)
        idle, other = await before.manager.issue(ORDER)
        async with gateways(redis.url, tmp_path / "2", pepper=f"{OLD}\n{NEW}") as (added,):
            _, made_old = await added.manager.issue(ORDER)
            await until(lambda: before.accepts(made_old.credential))
    async with (
        gateways(redis.url, tmp_path / "3", pepper=f"{OLD}\n{NEW}") as (last,),
        gateways(redis.url, tmp_path / "4", pepper=f"{NEW}\n{OLD}") as (first,),
    ):
        _, made_new = await first.manager.issue(ORDER)
        await until(lambda: last.accepts(made_new.credential))
        assert not last.keys.reasons
        assert {record.key_id for record in first.manager.list() if first.manager.outdated(record)} == {
            used.key_id,
            idle.key_id,
            made_old.key_id,
        }
        assert b"nexus_gateway_api_keys_old_pepper 3.0" in first.metrics.render()
        assert first.accepts(key.credential)
        assert first.accepts(made_old.credential)
        await until(lambda: b"nexus_gateway_api_keys_old_pepper 1.0" in first.metrics.render())
        await first.manager.revoke(idle.key_id)
        assert b"nexus_gateway_api_keys_old_pepper 0.0" in first.metrics.render()
        await until(lambda: last.keys.ring.get(used.key_id) == first.keys.ring.get(used.key_id))
        assert last.accepts(key.credential)
        _, made_last = await last.manager.issue(ORDER)
        assert not any(last.manager.outdated(record) for record in last.manager.list() if not record.revoked)
    async with gateways(redis.url, tmp_path / "5", pepper=NEW) as (after,):
        assert after.authenticator.ready
        assert not after.keys.reasons
        for each in (key, made_old, made_new, made_last):
            assert after.accepts(each.credential)
        assert not after.accepts(other.credential)


async def test_a_key_in_use_is_renewed_once_all_follow_a_newer_pepper(redis: RedisProcess, tmp_path: Path) -> None:
    """A gateway that remembers a key as verified verifies it again, and so renews it, when the pepper changes."""
    async with gateways(redis.url, tmp_path / "1", pepper=f"{OLD}\n{NEW}") as (one,):
        record, key = await one.manager.issue(ORDER)
        policy = one.store.snapshot.policy

        def used() -> bool:
            return one.authenticator.identify(policy, None, key.credential.encode()) is not None

        assert used()
        async with gateways(redis.url, tmp_path / "2", pepper=f"{NEW}\n{OLD}") as (first,):
            await until(lambda: one.keys.ring.pepper == first.keys.ring.pepper)
        await until(lambda: used() and _held(redis, record.key_id).pepper == one.keys.ring.pepper)


async def test_two_gateways_that_renew_one_key_agree(redis: RedisProcess, tmp_path: Path) -> None:
    """A key that is used at two gateways at once is renewed once, and both have it so."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        record, key = await before.manager.issue(ORDER)
    async with gateways(redis.url, tmp_path / "2", 2, pepper=f"{NEW}\n{OLD}") as (one, two):
        assert one.accepts(key.credential)
        assert two.accepts(key.credential)
        await until(lambda: not one.keys.ring.renewals and not two.keys.ring.renewals)
        held = _held(redis, record.key_id)
        assert held.pepper == one.keys.ring.fingerprints[0]
        assert one.keys.ring.get(record.key_id) == two.keys.ring.get(record.key_id) == held


async def test_a_record_that_cannot_be_read_holds_no_renewal_back(
    redis: RedisProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken record is passed over and told once; the other keys are renewed."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        broken, first = await before.manager.issue(ORDER)
        record, second = await before.manager.issue(ORDER)
    async with gateways(redis.url, tmp_path / "2", pepper=f"{NEW}\n{OLD}") as (one,):
        redis.client.hset(KEYS[0], broken.key_id, "{}")
        for key in (first, second):
            assert one.accepts(key.credential)
        await until(lambda: one.keys.ring.renewals.keys() == {broken.key_id})
        assert _held(redis, record.key_id).pepper == one.keys.ring.pepper
        await one.keys._renew()
        assert one.keys.reasons == ("1 API keys in Redis cannot be read: see the log",)
        told = [each.getMessage() for each in caplog.records if each.name == "gateway.auth.key_store"]
        assert told == ["an API key in Redis cannot be read"]


async def test_a_pepper_that_changes_meanwhile_is_not_written_beside_anothers_digest(
    redis: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that has begun is written with the pepper that its digest was made with."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        record, key = await before.manager.issue(ORDER)
    peppers = f"{MIDDLE}\n{OLD}\n{NEW}"
    one = await KeyGateway(redis.url, tmp_path / "2", asyncio.TaskGroup(), pepper=peppers).start_alone()
    middle, old, new = one.keys.ring.fingerprints
    command = one.redis.command

    async def slow(*parts: str | bytes) -> object:
        answer = await command(*parts)
        one.keys.ring.follow([old, middle, new])  # another gateway has begun to use the newest
        return answer

    monkeypatch.setattr(one.redis, "command", slow)
    assert one.accepts(key.credential)
    await one.keys._renew()
    held = _held(redis, record.key_id)
    assert (held.pepper, held.digest) == (middle, key_digest(key.credential.encode(), MIDDLE.encode()).hex())
    await one.redis.close()


async def test_who_missed_a_renewal_writes_no_older_digest_back(redis: RedisProcess, tmp_path: Path) -> None:
    """A gateway that was away takes in what Redis has before it restores: a key that was renewed meanwhile stays so."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        record, key = await before.manager.issue(ORDER)
    away = await KeyGateway(redis.url, tmp_path / "2", asyncio.TaskGroup(), pepper=f"{NEW}\n{OLD}").start_alone()
    async with gateways(redis.url, tmp_path / "3", pepper=f"{NEW}\n{OLD}") as (one,):
        assert one.accepts(key.credential)
        await until(lambda: not one.keys.ring.renewals)
        assert await away.manager.restore() == 0
        assert _held(redis, record.key_id).pepper == one.keys.ring.pepper
    await away.redis.close()


async def test_a_revocation_outlives_a_renewal(redis: RedisProcess, tmp_path: Path) -> None:
    """A key that was revoked at one gateway while another one renews it stays revoked."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        record, key = await before.manager.issue(ORDER)
    async with gateways(redis.url, tmp_path / "2", 2, pepper=f"{NEW}\n{OLD}") as (one, two):
        assert two.accepts(key.credential)
        await one.manager.revoke(record.key_id)
        await until(lambda: not two.keys.ring.renewals)
        await until(lambda: not one.accepts(key.credential) and not two.accepts(key.credential))
        assert _held(redis, record.key_id).revoked is not None


async def test_a_pepper_that_went_too_early_is_told(redis: RedisProcess, tmp_path: Path) -> None:
    """Where keys in force were made with a pepper that is gone, the gateway says how many; new ones work."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        _, key = await before.manager.issue(ORDER)
    async with gateways(redis.url, tmp_path / "2", pepper=f"{NEW}\n{OLD}") as (both,):
        await both.manager.issue(ORDER)
    async with gateways(redis.url, tmp_path / "3", pepper=NEW) as (after,):
        assert not after.accepts(key.credential)
        assert [reason[:24] for reason in after.keys.reasons] == ["1 API keys are refused, "]
        assert b"nexus_gateway_api_keys_old_pepper 1.0" in after.metrics.render()


async def test_keys_whose_pepper_nobody_wrote_down_are_told_too(redis: RedisProcess, tmp_path: Path) -> None:
    """Records of before peppers were noted count once there have been several, and as void once one of them is gone."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        used, first = await before.manager.issue(ORDER)
        idle, second = await before.manager.issue(ORDER)
    for record in (used, idle):
        redis.client.hset(KEYS[0], record.key_id, replace(record, pepper="").dump())
    async with gateways(redis.url, tmp_path / "2", pepper=OLD) as (alone,):
        assert b"nexus_gateway_api_keys_old_pepper 0.0" in alone.metrics.render()
    async with gateways(redis.url, tmp_path / "3", pepper=f"{NEW}\n{OLD}") as (both,):
        assert both.accepts(first.credential)
        await until(lambda: b"nexus_gateway_api_keys_old_pepper 1.0" in both.metrics.render())
        assert not both.keys.reasons
    async with gateways(redis.url, tmp_path / "4", pepper=NEW) as (after,):
        assert after.accepts(first.credential)
        assert not after.accepts(second.credential)
        assert b"nexus_gateway_api_keys_old_pepper 1.0" in after.metrics.render()
        assert [reason[:24] for reason in after.keys.reasons] == ["1 API keys are refused, "]
        assert [key.key_id for key in after.manager.list() if after.manager.outdated(key)] == [idle.key_id]


async def test_a_pepper_may_go_when_no_key_needs_it(redis: RedisProcess, tmp_path: Path) -> None:
    """A gateway that had both once is enough, though nobody has written a key since: the new one stands alone then."""
    async with gateways(redis.url, tmp_path / "1", pepper=OLD) as (before,):
        record, _ = await before.manager.issue(ORDER)
        await before.manager.revoke(record.key_id)
    async with gateways(redis.url, tmp_path / "2", pepper=f"{NEW}\n{OLD}") as (both,):
        await until(lambda: _newest(redis) == both.keys.ring.fingerprints[0])
    async with gateways(redis.url, tmp_path / "3", pepper=NEW) as (after,):
        assert after.authenticator.ready
        assert not after.keys.reasons
