"""The reader behind a real parser, fed as a socket would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import httptools
import pytest

from gateway.http_protocol import GuardedProtocol
from gateway.request_reader import RequestReader

MAX_BYTES = 4096
START = b"POST /v1/chat/completions HTTP/1.1\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"


class Connection:
    """Counts what the reader tells."""

    def __init__(self) -> None:
        self.heads = self.messages = 0
        self.body = b""

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


def feed(pieces: Iterable[bytes]) -> tuple[Connection, RequestReader, int]:
    """Feed reads until one is refused; returns how many bytes were taken."""
    connection, taken = Connection(), 0
    reader = RequestReader(cast("GuardedProtocol", connection), max_headers=20, max_header_bytes=MAX_BYTES)
    parser = httptools.HttpRequestParser(reader)
    for piece in pieces:
        reader.began = False
        try:
            parser.feed_data(piece)
        except httptools.HttpParserCallbackError:
            break
        if reader.is_head_too_long(len(piece)) if reader.in_head else reader.is_framing_too_long(len(piece)):
            break
        taken += len(piece)
    return connection, reader, taken


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 100, 1400, 100_000])
def test_a_legal_head_is_taken_however_it_is_cut(size: int) -> None:
    """A head just below the bound passes in one read and in many."""
    head = START + b"".join(b"x-%02d: %b\r\n" % (number, b"a" * 200) for number in range(18)) + b"\r\n"
    assert len(head) > MAX_BYTES * 0.9
    connection, _, taken = feed(cut(head, size))
    assert (connection.heads, taken) == (1, len(head))


@pytest.mark.parametrize("size", [1, 100, 1400])
@pytest.mark.parametrize(
    "head",
    [
        START + b"x: " + b"a" * 20_000,
        START + b"".join(b"x-%d: %b\r\n" % (number, b"a" * 400) for number in range(40)),
        START + b"".join(b"x-%d: 1\r\n" % number for number in range(40)),
        b"POST /" + b"a" * 20_000,
    ],
    ids=["one line", "long headers", "many headers", "target"],
)
def test_a_head_over_a_bound_is_refused_soon(head: bytes, size: int) -> None:
    """One endless line, too many bytes, too many headers and a long target are refused about where the bound is."""
    connection, reader, taken = feed(cut(head, size))
    assert reader.too_large
    assert connection.heads == 0
    assert taken <= MAX_BYTES + size


@pytest.mark.parametrize(
    "tail",
    [b"0\r\nx: " + b"a" * 3_000_000, b"1;" + b"a" * 3_000_000, b"0\r\n" + b"x: 1\r\n" * 400_000],
    ids=["trailer", "extension", "trailers"],
)
def test_framing_without_a_body_is_refused_however_long_the_body_before(tail: bytes) -> None:
    """A body of 4 MB buys no endless trailer or chunk extension."""
    body = b"%x\r\n%b\r\n" % (4_000_000, b"b" * 4_000_000)
    _, _, taken = feed([CHUNKED, *cut(body, 262_144), *cut(tail, 65_536)])
    assert taken - len(CHUNKED) - len(body) < 700_000


def test_small_chunks_are_a_body_all_the_same() -> None:
    """A body in chunks of one byte passes whole."""
    connection, _, _ = feed([CHUNKED, *cut(b"1\r\nb\r\n" * 50_000 + b"0\r\n\r\n", 1400)])
    assert (connection.messages, len(connection.body)) == (1, 50_000)


def test_pipelined_heads_are_counted_one_by_one() -> None:
    """Many heads in one read are each within the bound."""
    connection, reader, _ = feed([(START + b"content-length: 0\r\n\r\n") * 500 + START])
    assert (connection.heads, reader.too_large) == (500, False)
