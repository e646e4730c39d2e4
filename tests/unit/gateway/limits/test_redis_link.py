"""The address of Redis, and what a link does with bytes that are no answer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.limits.redis_link import RedisAddress, RedisAnswerError, RedisLink


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress("localhost", 6379)),
        ("redis://h:7000/3", RedisAddress("h", 7000, database=3)),
        ("rediss://u:p%40ss@h", RedisAddress("h", 6379, tls=True, user="u", password="p@ss")),
        ("redis://:secret@h:1?db=2", RedisAddress("h", 1, password="secret", database=2)),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        ("unix://:pw@/run/redis.sock?db=4", RedisAddress(path="/run/redis.sock", password="pw", database=4)),
    ],
)
def test_addresses_are_read(url: str, address: RedisAddress) -> None:
    """All three forms, with password and database."""
    assert RedisAddress.parse(url) == address


@pytest.mark.parametrize("url", ["", "http://h", "redis://", "redis://:hidden@h:x", "redis://:hidden@h/x", "unix://"])
def test_wrong_addresses_are_refused_without_showing_them(url: str) -> None:
    """The message never holds a password, nor does an address' repr."""
    with pytest.raises(ValueError, match="expected a Redis address") as refused:
        RedisAddress.parse(url)
    assert "hidden" not in str(refused.value)
    assert "hidden" not in repr(RedisAddress(password="hidden"))


PRIMARY = b"*4\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
"""The answer to HELLO, as far as anybody looks at it."""


class Server:
    """Answers every command with the next of some bytes."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers and await reader.read(4096):
            writer.write(self.answers.pop(0))
        writer.close()


async def _link(server: Server, lost: list[str]) -> tuple[RedisLink, asyncio.Server]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    return await RedisLink.open(RedisAddress("127.0.0.1", port), lost.append), listening


async def test_answers_come_in_order_and_in_any_pieces() -> None:
    """Two answers in one read go to two askers; an error answer is raised."""
    lost: list[str] = []
    link, listening = await _link(Server(PRIMARY, b"+OK\r\n", b"$3\r\nabc\r\n", b"-ERR no\r\n"), lost)
    async with listening:
        assert await link.ask("GET", "a") == b"abc"
        with pytest.raises(RedisAnswerError, match="ERR no"):
            await link.ask("GET", "b")
        link.close()
    assert lost == []


@pytest.mark.parametrize("junk", [b"HTTP/1.1 200 OK\r\n\r\n", b"+one\r\n+two\r\n"])
async def test_what_is_no_answer_ends_the_link(junk: bytes) -> None:
    """Another protocol, or an answer nobody asked for: the link cannot be trusted any more."""
    lost: list[str] = []
    link, listening = await _link(Server(PRIMARY, b"+OK\r\n", junk), lost)
    async with listening:
        with contextlib.suppress(OSError):
            await link.ask("PING")
        assert link.closed
        with pytest.raises(OSError, match="closed"):
            await link.ask("PING")
    assert len(lost) == 1
