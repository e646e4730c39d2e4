from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.model_name import replace_model

NAME = b'"openai/gpt-4o"'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"}', b'{"model":"openai/gpt-4o"}'),
        (
            b' { "a":1.50 ,\n "model" :\t"m\\"x" , "b":1e400}',
            b' { "a":1.50 ,\n "model" :\t"openai/gpt-4o" , "b":1e400}',
        ),
        (
            b'{"x":{"model":"no"},"model":"m","y":["model"]}',
            b'{"x":{"model":"no"},"model":"openai/gpt-4o","y":["model"]}',
        ),
        (b'{"x":"model","model":"m"}', b'{"x":"model","model":"openai/gpt-4o"}'),
        (b'{"x":"\\"model\\":\\"n\\"","model":"m"}', b'{"x":"\\"model\\":\\"n\\"","model":"openai/gpt-4o"}'),
        (b'{"x":"\\\\","model":"m","z":"\\u0061"}', b'{"x":"\\\\","model":"openai/gpt-4o","z":"\\u0061"}'),
    ],
)
def test_only_the_top_level_name_changes(body: bytes, expected: bytes) -> None:
    """Nested keys, texts that look like the key, white space and odd numbers stay byte for byte."""
    assert replace_model(body, NAME) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"mod\\u0065l":"a"}',
        b'{"\\u006dodel":"a","x":{"model":"n"}}',
        b'{"model":"a","mo\\u0064el":"b"}',
        b'{"mod\\u0065l":"a","x":["model","y"]}',
        b'{"model":"a","MODEL":"c","x":"\\u006d","\\u006dodel":"b"}',
    ],
)
def test_no_way_of_writing_the_key_gets_another_name_through(body: bytes) -> None:
    """Doubled keys and keys in escapes: every reader of the result sees the new name, and only it."""
    result = replace_model(body, NAME)
    seen = [value for key, value in json.loads(result, object_pairs_hook=list) if key == "model"]
    assert seen == ["openai/gpt-4o"]
    assert {k: v for k, v in json.loads(result).items() if k != "model"} == {
        k: v for k, v in json.loads(body).items() if k != "model"
    }


KEYS = st.sampled_from(["model", "a", '"model"', "mod\\el", "x\u006d", "모델"]) | st.text(max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=12)
    | st.sampled_from(['"model":"x"', "model"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), st.text(min_size=1, max_size=8), st.integers(0, 5), st.booleans())
def test_everything_else_survives_byte_for_byte(
    pairs: list[tuple[str, Any]], model: str, at: int, ascii_only: bool
) -> None:
    """Whatever stands around it, the result is the body with the name's bytes exchanged."""
    before = {key: value for key, value in pairs if key != "model"}
    entries = list(before.items())
    entries.insert(min(at, len(entries)), ("model", model))

    def written(value: str) -> bytes:
        return json.dumps(dict(entries) | {"model": value}, ensure_ascii=ascii_only, indent=at or None).encode(
            "utf-8", "surrogatepass"
        )

    body = written(model)
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return  # lone surrogates: refused before anybody asks for another name
    assert replace_model(body, NAME) == written("openai/gpt-4o")
