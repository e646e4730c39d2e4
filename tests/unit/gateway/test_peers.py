from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway import peers
from gateway.peers import Peers, Place
from tests.fakes.waiting import until


def named() -> Callable[[int, bytes], Peers]:
    """Return what makes workers of one gateway of three."""
    name = f"nexus-test-{secrets.token_hex(8)}"
    return lambda index, answer: Peers(Place(index, 3, name), {"who": lambda: answer}, patience_seconds=0.1)


@asynccontextmanager
async def running(*workers: Peers) -> AsyncIterator[list[asyncio.Task[None]]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(worker.run()) for worker in workers]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


async def test_each_worker_answers_for_itself() -> None:
    """Whoever is asked has the answers of all, in their order, whole however long they are."""
    make = named()
    workers = [make(index, b"%d" % index * 500_000) for index in range(3)]
    async with running(*workers):
        await until(lambda: all(worker._holds_name for worker in workers))
        for worker in workers:
            assert await worker.ask("who") == [b"0" * 500_000, b"1" * 500_000, b"2" * 500_000]


async def test_a_gateway_of_one_asks_nobody() -> None:
    """Without other workers there is no socket."""
    assert await Peers(peers.ALONE, {"who": lambda: b"me"}, patience_seconds=0).ask("who") == [b"me"]


async def test_a_worker_that_is_away_is_none() -> None:
    """A worker that does not run has no answer, and the others have theirs."""
    make = named()
    first, last = make(0, b"first"), make(2, b"last")
    async with running(first, last):
        await until(lambda: last._holds_name)
        assert await first.ask("who") == [b"first", None, b"last"]


async def test_a_worker_that_hangs_is_none() -> None:
    """A worker whose process is there and does not answer is waited for half a second."""
    make = named()
    first = make(0, b"first")
    with peers.socket.socket(peers.socket.AF_UNIX) as hung:
        hung.bind(f"\0{first.place.name}-1")
        hung.listen()
        assert await first.ask("who") == [b"first", None, None]
        async with running(first):
            await until(lambda: first._holds_name)
            assert await first.ask("who") == [b"first", None, None]


async def test_a_worker_that_dies_in_its_answer_is_none() -> None:
    """Half an answer is none."""
    make = named()
    first = make(0, b"first")

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"100\nnot so many")
        writer.close()

    with peers.socket.socket(peers.socket.AF_UNIX) as sock:
        sock.bind(f"\0{first.place.name}-2")
        async with running(first), await asyncio.start_unix_server(half, sock=sock):
            await until(lambda: first._holds_name)
            assert await first.ask("who") == [b"first", None, None]


async def test_the_old_worker_answers_until_it_ends() -> None:
    """In a rolling restart the one that ends speaks for its number, also to its successor, which follows it."""
    make = named()
    asker, old, new = make(0, b"asker"), make(1, b"old"), make(1, b"new")
    async with running(asker, old) as tasks:
        await until(lambda: asker._holds_name and old._holds_name)
        async with running(new):
            assert await new.ask("who") == [b"asker", b"old", None]
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
            assert (await asker.ask("who"))[1] == b"new"


async def test_another_users_process_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither end speaks to a process of another user."""
    make = named()
    first, second = make(0, b"first"), make(1, b"second")
    async with running(first, second):
        await until(lambda: first._holds_name and second._holds_name)
        monkeypatch.setattr(peers.os, "geteuid", lambda: 12_345)
        assert await first.ask("who") == [b"first", None, None]


@pytest.mark.parametrize("listens", [True, False])
async def test_a_worker_whose_name_another_user_has_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, listens: bool
) -> None:
    """Whoever takes its name keeps nobody from hearing that the gateway is ready, and the log says so once."""
    first = named()(0, b"first")
    with peers.socket.socket(peers.socket.AF_UNIX) as taken:
        taken.bind(f"\0{first.place.name}-0")
        if listens:
            taken.listen()
        monkeypatch.setattr(peers.os, "geteuid", lambda: 12_345)
        async with running(first):
            await until(lambda: bool(caplog.messages))
            assert await first.ask("who") == [
                b"first",
                None,
                None,
            ]  # the others' half seconds are ten looks at the name
    assert caplog.messages == ["another process keeps this worker's socket name"]
