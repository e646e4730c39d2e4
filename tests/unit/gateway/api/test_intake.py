from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import intake
from gateway.errors import InvalidRequestError
from gateway.telemetry.tracing import Trace
from serving.contracts.gateway_policy import RequestLimits

LIMITS = RequestLimits(max_body_bytes=1024, max_json_depth=4, body_seconds=0.05)


def head(*headers: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    return intake.read_head(list(headers), frozenset({b"x-rule"}))


@pytest.mark.parametrize("given_id", [b"abc", b"A-1_2.3:4", b"x" * 128])
def test_a_sane_request_id_is_kept(given_id: bytes) -> None:
    """A request id of up to 128 letters, digits and plain signs is kept."""
    assert intake.request_id_of(head((b"x-request-id", given_id))) == given_id


@pytest.mark.parametrize("given_id", [b"", b"x" * 129, b"a b", b"a\tb", b"\xff", b"a\n", b"<script>"])
def test_any_other_request_id_is_replaced(given_id: bytes) -> None:
    """An id that is empty, too long or has other characters is replaced by one of 32 characters."""
    made = intake.request_id_of(head((b"x-request-id", given_id)))
    assert made != given_id
    assert len(made) == 32


def test_request_ids_differ() -> None:
    """A hundred requests without an id get a hundred ids."""
    assert len({intake.request_id_of(head()) for _ in range(100)}) == 100


@pytest.mark.parametrize("name", [*sorted(intake.ONCE), b"x-rule"])
def test_two_headers_that_decide_something_are_refused(name: bytes) -> None:
    """A request with two users, credentials, keys or headers of a rule is refused by the header's name."""
    with pytest.raises(InvalidRequestError, match=name.decode()):
        head((name, b"a"), (name, b"b"))


def test_headers_that_nothing_looks_at_are_left_out() -> None:
    """Only known headers and those of rules are kept."""
    assert head((b"cookie", b"a"), (b"x-rule", b"b")) == {b"x-rule": b"b"}


@pytest.mark.parametrize(
    ("header", "document", "expected"),
    [
        (b"ann", {"user": "bob"}, b"ann"),
        (None, {"user": "bob"}, b"bob"),
        (b"", {"user": "bob"}, b"bob"),
        (None, {"user": "한"}, "한".encode()),
        (None, {"user": ""}, b"\0address:10.0.0.1"),
        (None, {"user": 5}, b"\0address:10.0.0.1"),
        (None, {"user": "\0address:10.0.0.9"}, b"\0address:10.0.0.1"),
        (None, {}, b"\0address:10.0.0.1"),
    ],
)
def test_who_asks_is_header_then_body_then_address(
    header: bytes | None, document: dict[str, Any], expected: bytes
) -> None:
    """The user is the header's, else the body's, else the address, and an empty or odd value counts as none."""
    asked = head((b"x-nexus-user", header)) if header is not None else head()
    assert intake.user_of(asked, document, ("10.0.0.1", 1)) == expected


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b'{"a":NaN}', b"\xff\xfe", b'{"a":"\xed\xa0\x80"}', nested(5),
     b'{"a":[[[[1]]]]}', b"[" * 100_000, b'{"a":1}x', nested(2000), b'{"a":[' + b"[]," * 66_000 + b"[]]}",
     b'{"a":[' + b'{"b":{}},' * 33_000 + b"{}]}"],
)  # fmt: skip
def test_what_is_no_object_of_bounded_shape_is_refused(body: bytes) -> None:
    """A body that is no JSON object, no valid text, too deep or made of too many pieces is the client's error."""
    with pytest.raises(InvalidRequestError):
        intake.parse_document(body, LIMITS)


@pytest.mark.parametrize(
    "body",
    [nested(4), b'{"a":[[[1]]]}', b'{"a":"' + b"[" * 500 + b'"}', json.dumps({"m": [{"x": {}}] * 20}).encode(),
     b'{"a":"' + b"[" * 200_000 + b'"}', b'{"a":[' + b"[]," * 65_000 + b"[]]}"],
)  # fmt: skip
def test_depth_counts_nesting_not_brackets(body: bytes) -> None:
    """Brackets inside strings, and many shallow objects side by side, do not count as depth."""
    assert intake.parse_document(body, LIMITS)


@pytest.mark.parametrize("document", [{}, {"model": None}, {"model": 5}, {"model": ""}, {"model": ["m"]}])
def test_a_request_names_a_model(document: dict[str, Any]) -> None:
    """A model that is missing, empty or no text is refused by that parameter."""
    with pytest.raises(InvalidRequestError) as refused:
        intake.model_of(document)
    assert refused.value.param == "model"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_document_or_the_clients_error(body: bytes) -> None:
    """Whatever the bytes, reading the document, the user and the model raises nothing but the client's error."""
    try:
        document = intake.parse_document(body, LIMITS)
        intake.user_of(head(), document, None)
        intake.model_of(document)
    except InvalidRequestError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(intake._WANTED)), st.binary(max_size=60)), max_size=5))
def test_any_headers_are_read_or_are_the_clients_error(headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever the headers, they are refused, or neither request id nor trace context can add a header line."""
    try:
        asked = head(*headers)
    except InvalidRequestError:
        return
    assert b"\n" not in intake.request_id_of(asked)
    trace = Trace(asked.get(intake.TRACE_PARENT), asked.get(intake.TRACE_STATE), 0.0)
    assert trace.upstream(trace.span_id).count(b"\n") <= 2
