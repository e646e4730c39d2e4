"""Another model's name in a request's body: everything else survives byte for byte.

A body is not encoded anew for this: unknown fields, number formats and the order of keys are the engine's to judge.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

_KEY: Final = b'"model"'
_ESCAPED_LETTER: Final = b"\\u006"
"""How each letter of `model` begins when it is written as an escape (U+0064 to U+006F)."""

_TEXT: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_VALUE: Final = re.compile(rb"\s*:\s*(%b)" % _TEXT)
_TOKEN: Final = re.compile(rb"%b|[{}\[\]]" % _TEXT)
_BEHIND_KEY: Final = re.compile(rb"\s*:")


def replace_model(body: bytes, name: bytes) -> bytes:
    """Return the body with another top-level `model`.

    Args:
        body: A JSON object that has a top-level key `model` with a text as its value, as `model_of` has checked.
        name: The new name as JSON (`Target.model_name`).
    """
    # A quote inside a JSON text is escaped, so these bytes are always a whole text. If they occur once, and the key is
    # not written with escapes, then they are the key.
    alone = body.count(_KEY) == 1 and _ESCAPED_LETTER not in body
    at = body.find(_KEY) if alone else _find_key(body)
    value = _VALUE.match(body, at + len(_KEY)) if at >= 0 else None
    if value is None:
        return orjson.dumps(orjson.loads(body) | {"model": orjson.loads(name)})
    return b"%b%b%b" % (body[: value.start(1)], name, body[value.end(1) :])


def _find_key(body: bytes) -> int:
    """Return where the only top-level key `model` begins; -1 when there are several or it is written with escapes."""
    depth = 0
    found = -1
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text in {b"{", b"["}:
            depth += 1
        elif text in {b"}", b"]"}:
            depth -= 1
        elif depth == 1 and _is_key(body, token.end()):
            if text != _KEY:
                if b"\\" in text and orjson.loads(text) == "model":
                    return -1
            elif found >= 0:
                return -1
            else:
                found = token.start()
    return found


def _is_key(body: bytes, end: int) -> bool:
    return _BEHIND_KEY.match(body, end) is not None
