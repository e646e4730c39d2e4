from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pieces import gather, joined


@given(st.lists(st.binary(max_size=5), max_size=200))
def test_what_is_gathered_comes_out_whole(parts: list[bytes]) -> None:
    """However many pieces there are, and whatever their sizes."""
    pieces: list[bytes | bytearray] = []
    for part in parts:
        gather(pieces, part)
    assert joined(pieces) == b"".join(parts)
    assert type(joined(pieces)) is bytes


def test_a_single_piece_is_not_copied() -> None:
    """The body of an ordinary request is the bytes that were read."""
    piece = b"x" * 1000
    pieces: list[bytes | bytearray] = []
    gather(pieces, piece)
    assert joined(pieces) is piece


@pytest.mark.parametrize("size", [2, 7])
def test_many_small_pieces_take_about_their_size(size: int) -> None:
    """200,000 of them take less than three times what is in them."""
    tracemalloc.start()
    pieces: list[bytes | bytearray] = []
    for number in range(200_000):
        gather(pieces, number.to_bytes(size, "big", signed=False) if size > 2 else bytes((number & 255, 7)))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 3 * 200_000 * size
