"""Pieces of a body as they come off a connection, without taking many times their size."""

from __future__ import annotations

from typing import Final

_MAX_PIECES: Final = 64
"""Pieces held as they came; one of two bytes takes over forty."""


def gather(pieces: list[bytes | bytearray], piece: bytes) -> None:
    """Add a piece; all but the first ones are held in one."""
    if len(pieces) < _MAX_PIECES:
        pieces.append(piece)
        return
    last = pieces[-1]
    if type(last) is not bytearray:
        pieces[-1] = last = bytearray(last)
    last += piece


def joined(pieces: list[bytes | bytearray]) -> bytes:
    """Return what was gathered; a single piece is not copied."""
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
