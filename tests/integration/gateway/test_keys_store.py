from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.auth.key_record import KeyRecord
from gateway.auth.key_scripts import CHANNEL, KEYS, PAGE
from gateway.errors import InvalidRequestError, NotFoundError, NotReadyError
from gateway.redis_connection import RedisConnection
from serving.contracts.admin_api import IssueKey, KeyState
from tests.fakes.key_gateway import KeyGateway, gateways
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

ORDER = IssueKey(tenant="acme", name="n")
WITHIN = 1.0  # what the issue promises for a revocation


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess(persistent=True) as process:
        yield process


async def test_a_revoked_key_is_refused_everywhere_within_a_second(redis: RedisProcess, tmp_path: Path) -> None:
    """A key issued at one gateway is accepted by another, and refused there within a second of its revocation."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        for _ in range(5):
            record, new = await one.manager.issue(ORDER)
            await until(lambda key=new.credential: two.accepts(key), WITHIN)
            principal = two.authenticator.identify(two.store.snapshot.policy, None, new.credential.encode())
            assert principal is not None
            await one.manager.revoke(record.key_id)
            assert not one.accepts(new.credential)
            await until(lambda key=new.credential: not two.accepts(key), WITHIN)


async def test_a_lost_announcement_costs_less_than_a_second(redis: RedisProcess, tmp_path: Path) -> None:
    """A revocation whose announcement never arrives is still seen within a second."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        record, new = await one.manager.issue(ORDER)
        await until(lambda key=new.credential: two.accepts(key))
        redis.client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        redis.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        redis.client.execute_command("ACL", "SETUSER", "default", "allchannels")
        # written past the gateways: nothing is published
        revoked = KeyRecord.parse(redis.client.hget(KEYS[0], record.key_id))
        raw = revoked.dump().replace(b'"revoked":null', b'"revoked":1.5')
        version = redis.client.hincrby(KEYS[2], "version", 1)
        redis.client.hset(KEYS[0], record.key_id, raw)
        redis.client.zadd(KEYS[1], {record.key_id: version})
        await until(lambda key=new.credential: not one.accepts(key) and not two.accepts(key), WITHIN)


async def test_rotation_lets_both_keys_in_until_the_overlap_ends(redis: RedisProcess, tmp_path: Path) -> None:
    """After a rotation both keys are accepted, counted as one, and the old one ends alone."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        old, first = await one.manager.issue(ORDER)
        new, second = await one.manager.rotate(old.key_id, 0.5)
        await until(lambda: two.accepts(second.credential), WITHIN)
        assert two.accepts(first.credential)
        policy = two.store.snapshot.policy
        keys = [two.authenticator.identify(policy, None, each.credential.encode()) for each in (first, second)]
        assert {key.key_id for key in keys if key} == {old.key_id}
        assert (new.rotated_from, new.tenant, new.scopes) == (old.key_id, old.tenant, old.scopes)
        assert one.manager.get(old.key_id).state(time.time()) is KeyState.REPLACED
        await until(lambda: not two.accepts(first.credential), 2.0)
        assert two.accepts(second.credential)
        with pytest.raises(InvalidRequestError, match="expected an active key"):
            await one.manager.rotate(old.key_id, 1)


async def test_changes_to_one_key_at_once_all_count(redis: RedisProcess, tmp_path: Path) -> None:
    """Rotating and revoking a key at two gateways at once ends with it revoked, whoever came first."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        for _ in range(10):
            record, new = await one.manager.issue(ORDER)
            await until(lambda key=new.credential: two.accepts(key))
            results = await asyncio.gather(
                one.manager.rotate(record.key_id, 60), two.manager.revoke(record.key_id), return_exceptions=True
            )
            assert not isinstance(results[1], BaseException)
            assert isinstance(results[0], InvalidRequestError | tuple)
            await until(lambda key=new.credential: not one.accepts(key) and not two.accepts(key), WITHIN)


async def test_redis_down_leaves_the_keys_in_force(redis: RedisProcess, tmp_path: Path) -> None:
    """While Redis is down known keys pass, changes are refused, it is shown and counted; then all is as before."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        record, new = await one.manager.issue(ORDER)
        redis.kill()
        await until(lambda: one.keys.reasons)
        assert "Redis does not answer" in one.keys.reasons[0]
        assert one.accepts(new.credential)
        assert one.authenticator.ready
        with pytest.raises(NotReadyError):
            await one.manager.revoke(record.key_id)
        assert one.accepts(new.credential)
        assert b"nexus_gateway_api_key_refresh_failures_total 0.0" not in one.metrics.render()
        redis.start()
        await until(lambda: not one.keys.reasons)
        await one.manager.revoke(record.key_id)
        assert not one.accepts(new.credential)


async def test_a_redis_that_stands_still_is_one_that_is_down(redis: RedisProcess, tmp_path: Path) -> None:
    """A Redis that keeps connections and answers nothing is noticed within its timeout, and followed again."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        _, new = await one.manager.issue(ORDER)
        redis.pause()
        try:
            await until(lambda: one.keys.reasons, 3.0)
            assert one.accepts(new.credential)
        finally:
            redis.resume()
        await until(lambda: not one.keys.reasons)


async def test_a_redis_that_comes_back_empty_drops_no_key_and_brings_none_back(
    redis: RedisProcess, tmp_path: Path
) -> None:
    """After Redis lost everything known keys pass, revoked ones do not, nothing is written, and it is shown."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        _, good = await one.manager.issue(ORDER)
        gone, bad = await one.manager.issue(ORDER)
        await one.manager.revoke(gone.key_id)
        await until(lambda: two.accepts(good.credential) and two.keys.ring.get(gone.key_id) is not None)
        redis.client.flushall()
        await until(lambda: one.keys.reasons and two.keys.reasons)
        assert "write them back" in one.keys.reasons[0]
        for gateway in (one, two):
            assert gateway.accepts(good.credential)
            assert not gateway.accepts(bad.credential)
        for change in (one.manager.issue(ORDER), one.manager.revoke(gone.key_id)):
            with pytest.raises((NotReadyError, NotFoundError)):
                await change
        assert redis.client.exists(*KEYS) == 0

        assert await one.manager.restore() == 2
        await until(lambda: not one.keys.reasons and not two.keys.reasons)
        fresh = await KeyGateway(redis.url, tmp_path / "fresh", asyncio.TaskGroup()).start_alone()
        assert fresh.accepts(good.credential)
        assert not fresh.accepts(bad.credential)
        await fresh.redis.close()


async def test_a_restored_older_backup_brings_no_revoked_key_back(redis: RedisProcess, tmp_path: Path) -> None:
    """When Redis comes back with an older state, keys revoked since stay refused, and those issued since pass."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        record, old = await one.manager.issue(ORDER)
        backup = {key: redis.client.dump(key) for key in KEYS}
        await one.manager.revoke(record.key_id)
        _, new = await one.manager.issue(ORDER)
        redis.client.flushall()
        for key, value in backup.items():
            redis.client.restore(key, 0, value)
        await until(lambda: one.keys.reasons)
        assert not one.accepts(old.credential)
        assert one.accepts(new.credential)
        await one.manager.restore()
        await until(lambda: not one.keys.reasons)
        fresh = await KeyGateway(redis.url, tmp_path / "fresh", asyncio.TaskGroup()).start_alone()
        for gateway in (one, fresh):
            assert not gateway.accepts(old.credential)
            assert gateway.accepts(new.credential)
        await fresh.redis.close()


async def test_restoring_brings_back_no_key_that_redis_knows_to_be_revoked(redis: RedisProcess, tmp_path: Path) -> None:
    """A revocation that only Redis knows, because this gateway no longer followed, survives what the gateway writes."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        record, new = await one.manager.issue(ORDER)
        await one.manager.issue(ORDER)
        redis.client.hset(KEYS[2], "version", 1)
        await until(lambda: one.keys.reasons)
        raw = redis.client.hget(KEYS[0], record.key_id)
        redis.client.hset(KEYS[0], record.key_id, raw.replace(b'"revoked":null', b'"revoked":1.5'))
        assert one.accepts(new.credential)
        await one.manager.restore()
        held = KeyRecord.parse(redis.client.hget(KEYS[0], record.key_id))
        assert held.revoked == 1.5
        assert not one.accepts(new.credential)


async def test_keys_of_two_data_sets_can_be_joined(redis: RedisProcess, tmp_path: Path) -> None:
    """After Redis was emptied and used by a fresh gateway, restoring joins both sets, for every gateway."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        for _ in range(5):
            _, before = await one.manager.issue(ORDER)
        await until(lambda: two.accepts(before.credential))
        redis.client.flushall()
        async with gateways(redis.url, tmp_path / "later", 1) as (three,):
            _, after = await three.manager.issue(ORDER)
            assert three.accepts(after.credential)
            await until(lambda: one.keys.reasons and two.keys.reasons)
            assert not one.accepts(after.credential)
            await one.manager.restore()
            for gateway in (one, two, three):
                await until(lambda g=gateway: g.accepts(after.credential) and g.accepts(before.credential))
                await until(lambda g=gateway: not g.keys.reasons)


async def test_another_pepper_is_told_apart_from_wrong_keys(redis: RedisProcess, tmp_path: Path) -> None:
    """A gateway with another pepper than the keys were made with is not ready, rather than refusing every key."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        _, new = await one.manager.issue(ORDER)
        other = await KeyGateway(
            redis.url, tmp_path / "other", asyncio.TaskGroup(), pepper="another-pepper-" * 3
        ).start_alone()
        assert not other.authenticator.ready
        assert "NEXUS_GATEWAY_KEY_PEPPER" in other.keys.reasons[0]
        with pytest.raises(NotReadyError):
            other.authenticator.identify(other.store.snapshot.policy, None, new.credential.encode())
        with pytest.raises(InvalidRequestError, match="NEXUS_GATEWAY_KEY_PEPPER"):
            await other.manager.issue(ORDER)
        await other.redis.close()


async def test_who_has_lost_the_pepper_begins_anew(redis: RedisProcess, tmp_path: Path) -> None:
    """By the guide: once the keys are deleted in Redis, a gateway that starts with another pepper issues new ones."""
    async with gateways(redis.url, tmp_path / "1") as (one,):
        await one.manager.issue(ORDER)
    keys = redis.client.keys("{nexus}:keys*")
    assert sorted(key.decode() for key in keys) == sorted(KEYS)
    redis.client.delete(*keys)
    async with gateways(redis.url, tmp_path / "2", pepper="another-pepper-" * 3) as (other,):
        assert not other.keys.reasons
        _, new = await other.manager.issue(ORDER)
        assert other.accepts(new.credential)


async def test_keys_that_were_never_loaded_are_loaded_later(tmp_path: Path) -> None:
    """A gateway that starts before Redis is not ready, and becomes so by itself."""
    process = RedisProcess()
    try:
        async with gateways(process.url, tmp_path, 1) as (one,):
            assert not one.authenticator.ready
            assert "never loaded" in one.authenticator.reasons[0]
            process.start()
            await until(lambda: one.authenticator.ready)
            assert one.authenticator.reasons == ()
    finally:
        process.stop()


async def test_many_keys_are_read_in_pages(redis: RedisProcess, tmp_path: Path) -> None:
    """More keys than one page holds are all known after the start, a broken one is shown and harms no other."""
    async with gateways(redis.url, tmp_path, 1) as (one,):
        record, new = await one.manager.issue(ORDER)
        raw = redis.client.hget(KEYS[0], record.key_id).decode()
        pipe = redis.client.pipeline()
        for number in range(PAGE * 2 + 7):
            name = f"k{number:011d}"
            pipe.hset(KEYS[0], name, raw.replace(record.key_id, name))
            pipe.zadd(KEYS[1], {name: number + 10})
        pipe.hset(KEYS[0], "broken000000", "{}")
        pipe.zadd(KEYS[1], {"broken000000": 5})
        pipe.hset(KEYS[2], "version", PAGE * 2 + 20)
        pipe.execute()
        redis.client.publish(CHANNEL, "x")
        await until(lambda: len(one.keys.ring) == PAGE * 2 + 8)
        assert one.accepts(new.credential)
        assert "1 API keys in Redis cannot be read" in one.keys.reasons[0]


async def test_a_drained_service_is_drained_everywhere(redis: RedisProcess, tmp_path: Path) -> None:
    """Draining a service at one gateway drains it at others, though Redis loses it, until it is taken back."""
    async with gateways(redis.url, tmp_path, 2) as (one, two):
        (state,) = two.registry.of_service("m-1")
        await one.drains.set("m-1", drained=True)
        await until(lambda: state.drained)
        redis.client.flushall()
        await asyncio.sleep(1.2)  # two looks
        assert state.drained
        await two.drains.set("m-1", drained=False)
        assert not state.drained
        await until(lambda: not one.registry.of_service("m-1")[0].drained)
        with pytest.raises(NotFoundError):
            await one.drains.set("nothing", drained=True)
        redis.kill()
        with pytest.raises(NotReadyError):
            await one.drains.set("m-1", drained=True)
        assert not one.registry.of_service("m-1")[0].drained


async def test_a_script_that_redis_forgot_is_sent_again(redis: RedisProcess) -> None:
    """A restarted or flushed script cache costs nothing but one more message."""
    connection = RedisConnection(SecretStr(redis.url), 1.0)
    assert await connection.run("return ARGV[1]", [], ["a"]) == b"a"
    redis.client.script_flush()
    assert await connection.run("return ARGV[1]", [], ["b"]) == b"b"
    await connection.close()


async def test_a_key_whose_record_is_broken_can_be_revoked(redis: RedisProcess, tmp_path: Path) -> None:
    """The last good record is in force and is the one that is ended; where there is none, the error says what to do."""
    async with gateways(redis.url, tmp_path / "1") as (one,):
        record, key = await one.manager.issue(ORDER)
        redis.client.hset(KEYS[0], record.key_id, "{}")
        assert one.accepts(key.credential)
        await one.manager.revoke(record.key_id)
        assert not one.accepts(key.credential)
        redis.client.hset(KEYS[0], "unheard00000", "{}")
        with pytest.raises(NotReadyError, match="backup"):
            await one.manager.revoke("unheard00000")
