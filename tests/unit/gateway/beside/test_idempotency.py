from __future__ import annotations

import asyncio

import pytest

from gateway.beside.idempotency import Entry, Idempotency, MemoryStore, fingerprint_of, key_of
from gateway.errors import IdempotencyConflictError, InvalidRequestError
from gateway.exchange import AnswerCopy

pytestmark = pytest.mark.asyncio
KEY = b"k" * 40
ONE, TWO = fingerprint_of("/v1/x", b"one"), fingerprint_of("/v1/x", b"two")


def copy_of(status: int, body: bytes, *, ended: bool = True, room: int = 100) -> AnswerCopy:
    copy = AnswerCopy(room)
    copy.begin(status, b"content-type: text/x\r\nx: y\r\n")
    copy.add(body)
    copy.ended = ended
    return copy


async def test_a_repeat_gets_the_first_answer() -> None:
    """The first request is served; its repeat gets status, content type and body of that answer."""
    idempotency = Idempotency(MemoryStore())
    assert await idempotency.claim(KEY, ONE, 1.0) is None
    await idempotency.finish(KEY, ONE, copy_of(200, b"answer"), 60.0)
    assert await idempotency.claim(KEY, ONE, 1.0) == Entry(ONE, 200, b"text/x", b"answer")


async def test_a_repeat_that_comes_meanwhile_waits() -> None:
    """A concurrent duplicate is not served a second time; it gets the answer once there is one."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 5.0)
    repeat = asyncio.ensure_future(idempotency.claim(KEY, ONE, 5.0))
    await asyncio.sleep(0.02)
    assert not repeat.done()
    await idempotency.finish(KEY, ONE, copy_of(400, b"no"), 60.0)
    assert (await repeat) == Entry(ONE, 400, b"text/x", b"no")


@pytest.mark.parametrize(
    "copy", [copy_of(503, b"x"), copy_of(429, b"x"), copy_of(200, b"x", ended=False), AnswerCopy(1)]
)
async def test_what_deserves_a_new_try_frees_the_key(copy: AnswerCopy) -> None:
    """After an error of ours, a limit, or a client that left, the next request with the key is served."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 1.0)
    await idempotency.finish(KEY, ONE, copy, 60.0)
    assert await idempotency.claim(KEY, ONE, 1.0) is None


async def test_another_request_with_the_key_is_refused() -> None:
    """The same key with another body is a conflict, before and after the first one's end."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 1.0)
    with pytest.raises(IdempotencyConflictError, match="got another"):
        await idempotency.claim(KEY, TWO, 1.0)
    await idempotency.finish(KEY, ONE, copy_of(200, b"x"), 60.0)
    with pytest.raises(IdempotencyConflictError, match="got another"):
        await idempotency.claim(KEY, TWO, 1.0)


async def test_an_answer_too_long_to_keep_is_not_made_twice() -> None:
    """A repeat of a request whose answer was too long is refused: serving it again would not be the same answer."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 1.0)
    await idempotency.finish(KEY, ONE, copy_of(200, b"x" * 200), 60.0)
    with pytest.raises(IdempotencyConflictError, match="too long"):
        await idempotency.claim(KEY, ONE, 1.0)


async def test_nobody_waits_for_ever() -> None:
    """A repeat gives up when the first request may take no longer."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 60.0)
    with pytest.raises(IdempotencyConflictError, match="under way"):
        await idempotency.claim(KEY, ONE, 0.06)


async def test_a_claim_ends_with_its_time() -> None:
    """A claim whose process died is free once the first request could not be under way any more."""
    idempotency = Idempotency(MemoryStore())
    await idempotency.claim(KEY, ONE, 0.01)
    await asyncio.sleep(0.02)
    assert await idempotency.claim(KEY, TWO, 1.0) is None


async def test_memory_is_bounded() -> None:
    """Above its bound the store forgets the oldest key."""
    store = MemoryStore(max_entries=2)
    for key in (b"a", b"b", b"c"):
        assert await store.claim(key, Entry(ONE, 200), 60.0) is None
    assert await store.claim(b"c", Entry(TWO, 0), 60.0) == Entry(ONE, 200)
    assert await store.claim(b"a", Entry(TWO, 0), 60.0) is None


async def test_keys_belong_to_their_owner() -> None:
    """The same key of two owners is two keys, and a key has to have 1 to 255 bytes."""
    assert key_of("one", b"k") != key_of("two", b"k")
    for given in (b"", b"x" * 256):
        with pytest.raises(InvalidRequestError):
            key_of("one", given)
