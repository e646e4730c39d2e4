"""Messages between clients and the engine parent."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from serving.local.parent_clients import Client
from serving.local.parent_protocol import (
    MAX_LINE_BYTES,
    ParentConnection,
    ParentError,
    StartRequest,
    short_address,
    socket_path,
)

REQUEST = StartRequest("t", ("/python", "-m", "x"), {"A": "b"}, "/log", "/identity", "/scratch", lease=True, warm=False)


def test_request_round_trip() -> None:
    """A request arrives as it was sent."""
    assert StartRequest.parse(json.loads(json.dumps(REQUEST.message()))) == REQUEST


@pytest.mark.parametrize(
    "change",
    [
        {"argv": []},
        {"argv": [1]},
        {"argv": None},
        {"env": {"A": 1}},
        {"env": [1]},
        {"token": 3},
        {"log_path": None},
        {"extra": 1},
    ],
)
def test_malformed_request_is_refused(change: dict[str, Any]) -> None:
    """A wrong type or an unknown key is an answer, not a crash of the parent."""
    with pytest.raises(ParentError, match="expected"):
        StartRequest.parse({**REQUEST.message(), **change})


def test_missing_key_is_refused() -> None:
    """So is a missing one."""
    with pytest.raises(ParentError):
        StartRequest.parse({"op": "start"})


def test_socket_path_may_be_long(tmp_path: Path) -> None:
    """The kernel's limit of 107 bytes does not bound how deep a home may be."""
    home = tmp_path / ("d" * 100) / ("e" * 100)
    (home / "run").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        with short_address(socket_path(home)) as address:
            server.bind(address)
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b'{"pid": 7}\n')
                connection.recv(100)
                connection.sendall(b'{"error": "no"}\n')
                connection.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        with ParentConnection(home) as connection:
            assert connection.ask({"op": "ping"}) == {"pid": 7}
            with pytest.raises(ParentError, match="refused 'ping': no"):
                connection.ask({"op": "ping"})
            connection._socket.shutdown(socket.SHUT_WR)
            with pytest.raises(ParentError):
                connection.ask({"op": "ping"})
        thread.join()


def test_nobody_listens(tmp_path: Path) -> None:
    """A home without a parent says so."""
    (tmp_path / "run").mkdir()
    with pytest.raises(ParentError, match="does not answer"):
        ParentConnection(tmp_path)


@pytest.fixture
def pair() -> Any:
    left, right = socket.socketpair()
    with left, right:
        yield Client(left), right


@pytest.mark.parametrize("data", [b"no json\n", b"[1]\n", b"\xff\n", b'"x"\n'])
def test_client_that_speaks_something_else_is_dropped(pair: Any, data: bytes) -> None:
    """Garbage ends the connection."""
    client, other = pair
    other.sendall(data)
    assert client.receive() is None


def test_messages_come_in_pieces(pair: Any) -> None:
    """Half a line waits for its end; two lines are two messages."""
    client, other = pair
    assert client.receive() == []
    other.sendall(b'{"a"')
    assert client.receive() == []
    other.sendall(b': 1}\n{"b": 2}\n{')
    assert client.receive() == [{"a": 1}, {"b": 2}]
    other.close()
    assert client.receive() is None


def test_endless_line_is_dropped(pair: Any) -> None:
    """A line without end does not fill the parent's memory."""
    client, other = pair
    writer = threading.Thread(target=lambda: _send_all(other, b"x" * (MAX_LINE_BYTES + 100_000)))
    writer.start()
    while (found := client.receive()) == []:
        pass
    assert found is None
    client.connection.close()
    writer.join()


def test_client_that_does_not_read_is_dropped(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its full buffer does not hold up the others."""
    monkeypatch.setattr("serving.local.parent_clients._SEND_SECONDS", 0.01)
    client, _ = pair
    for _ in range(1000):
        client.send({"text": "x" * 10_000})
    assert client.receive() is None


def _send_all(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return
