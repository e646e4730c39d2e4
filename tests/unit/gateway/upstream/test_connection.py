from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StaleConnectionError, UpstreamError, UpstreamProtocolError, UpstreamResetError
from gateway.upstream.answer import PAUSE_BYTES
from gateway.upstream.connection import MAX_SILENT_BYTES, Connection
from gateway.upstream.origin import Origin
from serving.contracts.gateway_policy import Timeouts

TIMEOUTS = Timeouts(first_byte_seconds=1, between_bytes_seconds=2, total_seconds=10)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
def loop() -> object:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def begin(loop: asyncio.AbstractEventLoop, exchanges: int = 0) -> tuple[Connection, FakeTransport]:
    connection = Connection(
        Origin("engine", 80), loop, max_answer_bytes=PAUSE_BYTES + 100, on_closed_idle=lambda _: None
    )
    transport = FakeTransport()
    connection.connection_made(transport)
    connection.exchanges = exchanges
    connection.start(b"request", TIMEOUTS)
    return connection, transport


def feed(connection: Connection, pieces: list[bytes], end: bool = False) -> None:
    for piece in pieces:
        if not connection.closed:
            connection.data_received(piece)
    if end:
        connection.connection_lost(None)


def body_of(loop: asyncio.AbstractEventLoop, connection: Connection) -> bytes:
    async def read() -> bytes:
        await connection.answered()
        out = b""
        while data := await connection.read():
            out += data
        return out

    return loop.run_until_complete(asyncio.wait_for(read(), 1))


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-length: 5\r\n\r\n" + LENGTH
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\nhello world"
OLD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world"
LAST = LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


@pytest.mark.parametrize(
    ("answer", "reusable"),
    [(LENGTH, True), (CHUNKED, True), (UNTIL_CLOSE, False), (OLD, False), (LAST, False)],
    ids=["length", "chunked", "until-close", "http-1.0", "connection-close"],
)
def test_every_split_of_every_framing_gives_the_same_answer(
    loop: asyncio.AbstractEventLoop, answer: bytes, reusable: bool
) -> None:
    """Wherever the bytes are split, each framing gives the same body, and only a kept connection is reusable."""
    until_close = answer is UNTIL_CLOSE
    for at in range(len(answer) + 1):
        connection, _ = begin(loop)
        feed(connection, [piece for piece in (answer[:at], answer[at:]) if piece], end=until_close)
        assert body_of(loop, connection) == b"hello world"
        assert (connection.status, connection.complete, connection.reusable) == (200, True, reusable)


def test_interim_answers_are_passed_over_whole_or_byte_by_byte(loop: asyncio.AbstractEventLoop) -> None:
    """After interim answers, the status, type and body are those of the final one."""
    interim = INTERIM.replace(b"content-length: 5\r\n", b"")
    for pieces in ([interim], [interim[at : at + 1] for at in range(len(interim))]):
        connection, _ = begin(loop)
        feed(connection, pieces)
        assert body_of(loop, connection) == b"hello world"
        assert (connection.status, connection.content_type) == (200, b"application/json")


def test_trailers_change_nothing(loop: asyncio.AbstractEventLoop) -> None:
    """A trailer leaves the body as it is and does not replace the head's content type."""
    connection, _ = begin(loop)
    feed(connection, [CHUNKED.replace(b"x-trailer: 1", b"content-type: application/json")])
    assert body_of(loop, connection) == b"hello world"
    assert (connection.content_type, connection.streaming) == (b"text/event-stream", True)


def test_a_connection_serves_one_answer_after_the_other(loop: asyncio.AbstractEventLoop) -> None:
    """One connection reads three answers of different framings and stays open."""
    connection, transport = begin(loop)
    for answer in (LENGTH, CHUNKED, LENGTH):
        feed(connection, [answer])
        assert body_of(loop, connection) == b"hello world"
        assert connection.reusable
        connection.running = False
        connection.start(b"again", TIMEOUTS)
    assert not transport.aborted


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x00\x01\x02",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
    ],
)
def test_garbage_is_an_error_whole_or_byte_by_byte(loop: asyncio.AbstractEventLoop, garbage: bytes) -> None:
    """Bytes that are no acceptable HTTP answer raise an upstream error, and the connection is not used again."""
    for pieces in ([garbage], [garbage[at : at + 1] for at in range(len(garbage))]):
        connection, _ = begin(loop)
        feed(connection, pieces, end=True)
        with pytest.raises(UpstreamError):
            body_of(loop, connection)
        assert not connection.reusable


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from([b"", LENGTH[:30], LENGTH[:-3], CHUNKED[:-9]]))
def test_any_bytes_end_in_an_answer_or_an_error(pieces: list[bytes], start: bytes) -> None:
    """Whatever bytes come, reading ends within a second, in a body or in an upstream error of an incomplete answer."""
    loop = asyncio.new_event_loop()
    try:
        connection, _ = begin(loop)
        feed(connection, [start, *pieces], end=True)
        try:
            body_of(loop, connection)
        except UpstreamError:
            assert not connection.complete
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("answer", "exchanges", "error"),
    [
        (b"", 1, StaleConnectionError),
        (b"", 0, UpstreamResetError),
        (b"H", 1, UpstreamResetError),
        (LENGTH[:-1], 0, UpstreamResetError),
        (LENGTH[:-1], 1, UpstreamResetError),
        (CHUNKED[:-4], 0, UpstreamResetError),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 1, UpstreamResetError),
    ],
)
def test_only_a_reused_connection_without_a_byte_of_answer_is_stale(
    loop: asyncio.AbstractEventLoop, answer: bytes, exchanges: int, error: type[UpstreamError]
) -> None:
    """A close is stale only on a reused connection without a byte of answer; otherwise it is a reset."""
    connection, _ = begin(loop, exchanges)
    feed(connection, [answer] if answer else [], end=True)
    with pytest.raises(error) as raised:
        body_of(loop, connection)
    assert type(raised.value) is error


def test_a_stream_gives_what_came_before_it_broke(loop: asyncio.AbstractEventLoop) -> None:
    """A broken stream first gives the piece that came, and then raises a reset."""
    connection, _ = begin(loop)
    feed(connection, [CHUNKED.split(b" world")[0]], end=True)
    assert loop.run_until_complete(connection.read()) == b"hello"
    with pytest.raises(UpstreamResetError):
        loop.run_until_complete(connection.read())


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 10,
    ],
    ids=["head", "interim", "trailer"],
)
def test_endless_heads_interim_answers_and_trailers_are_cut_off(loop: asyncio.AbstractEventLoop, flood: bytes) -> None:
    """An engine that sends a head, interim answers or a trailer without end is aborted with a protocol error."""
    connection, transport = begin(loop)
    more = flood if flood.endswith(b"\r\n\r\n") else b"y" * 1000
    feed(connection, [flood])
    for _ in range(2 * MAX_SILENT_BYTES // len(more)):
        feed(connection, [more])
        if connection.closed:
            break
    assert transport.aborted
    with pytest.raises(UpstreamProtocolError):
        body_of(loop, connection)


def test_an_oversized_answer_is_an_error_and_is_not_kept(loop: asyncio.AbstractEventLoop) -> None:
    """An answer above the size limit is a protocol error that states the limit."""
    connection, _ = begin(loop)
    size = PAUSE_BYTES * 2
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    feed(connection, [head, *[b"x" * 65_536] * (size // 65_536)])
    with pytest.raises(UpstreamProtocolError, match="at most"):
        body_of(loop, connection)


def test_a_stream_that_is_not_read_pauses_the_engine_and_its_time_limit(loop: asyncio.AbstractEventLoop) -> None:
    """Unread data pauses the socket and the time between bytes, and reading it resumes both."""
    connection, transport = begin(loop)
    feed(connection, [CHUNKED.split(b"5;ext")[0]])
    while transport.reading:
        feed(connection, [b"8000\r\n" + b"x" * 0x8000 + b"\r\n"])
    paused = connection.deadline
    assert len(loop.run_until_complete(connection.read())) > PAUSE_BYTES
    assert transport.reading
    assert connection.deadline < paused


@pytest.mark.parametrize("extra", [LENGTH, b"junk"])
def test_bytes_that_nobody_asked_for_end_the_connection(loop: asyncio.AbstractEventLoop, extra: bytes) -> None:
    """Bytes after a whole answer abort the connection, and bytes that come with it make it unusable."""
    connection, transport = begin(loop)
    feed(connection, [LENGTH])
    assert body_of(loop, connection) == b"hello world"
    connection.data_received(extra)
    assert transport.aborted
    together, _ = begin(loop)
    feed(together, [LENGTH + extra])
    assert together.complete
    assert not together.reusable
    assert body_of(loop, together) == b"hello world"
