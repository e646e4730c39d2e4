from __future__ import annotations

import asyncio

from gateway.held_transport import HeldTransport


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True


def test_head_and_first_piece_are_one_write_and_later_pieces_wait_for_nothing() -> None:
    """For every answer, the head leaves together with the first piece, and each later piece by itself."""
    wire = Wire()
    held = HeldTransport(wire)
    for _ in range(2):
        for data in (b"head", b"one", b"two"):
            held.write(data)
        held.end_answer()
    assert wire.writes == [b"headone", b"two"] * 2


def test_an_answer_without_a_body_is_written_at_its_end() -> None:
    """A head that no body follows is held until its answer ends or the transport is closed."""
    wire = Wire()
    held = HeldTransport(wire)
    held.write(b"head")
    assert wire.writes == []
    held.end_answer()
    held.write(b"next")
    held.close()
    assert (wire.writes, wire.closed) == ([b"head", b"next"], True)


def test_continue_is_not_held_and_large_bodies_are_not_copied() -> None:
    """100 Continue leaves at once, and a large piece follows its head as a write of its own."""
    wire = Wire()
    held = HeldTransport(wire)
    held.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    held.write(b"head")
    held.write(b"x" * 100_000)
    assert [len(data) for data in wire.writes] == [25, 4, 100_000]
