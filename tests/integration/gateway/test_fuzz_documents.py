"""Whatever is parsed, by Hypothesis: requests, other models' names, policies, credentials. Nothing but named errors."""

from __future__ import annotations

import json
import string
import time
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.api.formats import FORMATS
from gateway.api.intake import model_of, parse_document, read_head, request_id_of, user_of
from gateway.api.model_name import replace_model
from gateway.auth.credential import credential_of
from gateway.auth.jwks import parse_jwks
from gateway.auth.key_format import key_id_of, new_key
from gateway.auth.key_record import KeyRecord
from gateway.auth.key_ring import KeyRing
from gateway.auth.token import looks_like_token, read_token, verify_token
from gateway.errors import GatewayError, InvalidRequestError, UnauthorizedError
from gateway.limits.estimates import Estimate
from gateway.resilience.deadline import timeout_of
from gateway.telemetry.tracing import Trace
from serving.contracts.admin_api import KeyScope
from serving.contracts.authentication import JwtIssuer
from serving.contracts.gateway_policy import GatewayPolicy, RequestLimits
from serving.contracts.load import DocumentError
from serving.contracts.load import parse_document as parse_policy
from serving.contracts.route import Route
from tests.fakes.full_gateway import keyed_policy, policy_text, route_text
from tests.fakes.token_issuer import AUDIENCE, ISSUER, TokenIssuer, ec_key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["model", '"model"', "\\"])
)  # fmt: skip
KEYS = st.text(max_size=8) | st.sampled_from(
    ["model", "user", "stream", "max_tokens", "max_completion_tokens", "n", "prompt", "input", "tools", "text",
     "response_format", "output_config", "structured_outputs", "messages", "max_output_tokens", "metadata"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each, max_size=4), max_leaves=20
)
LIMITS = RequestLimits(max_json_depth=8)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@many
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.binary(max_size=64))
def test_any_request_is_read_or_refused(document: dict[str, Any], rubbish: bytes) -> None:
    """Any JSON, and any bytes: parsed within the limits of depth, or an `InvalidRequestError`; features never raise."""
    raw = json.dumps(document, allow_nan=False, default=str) if _finite(document) else json.dumps(str(document))
    for body in (raw.encode(errors="replace"), raw.encode(errors="replace")[: len(raw) // 2], rubbish):
        try:
            parsed = parse_document(body, LIMITS)
        except InvalidRequestError:
            continue
        assert depth(parsed) <= LIMITS.max_json_depth
        for form in FORMATS.values():
            most = form.max_tokens(parsed)
            assert most is None or (type(most) is int and most >= 0)
            form.whole(parsed)
        user_of({}, parsed, ("10.0.0.1", 1))
        try:
            assert model_of(parsed)
        except InvalidRequestError:
            continue


def _finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


WHITE = st.text(" \t\r\n", max_size=2)


@st.composite
def spellings(draw: st.DrawFn, key: str) -> str:
    """A JSON text whose letters may be written as escapes."""
    letters = [f"\\u{ord(letter):04x}" if draw(st.booleans()) else letter for letter in key]
    return '"' + "".join(letters) + '"' if draw(st.booleans()) else json.dumps(key)


@many
@given(st.data(), st.dictionaries(KEYS, VALUES.filter(_finite), max_size=5), st.text(string.printable, min_size=1))
def test_another_model_name_changes_nothing_else(data: st.DataObject, document: dict[str, Any], name: str) -> None:
    """However the key is written and whatever stands around it: only the top-level `model` has another value."""
    document["model"] = data.draw(st.text(min_size=1).filter(_encodable))
    parts = [
        data.draw(WHITE) + data.draw(spellings(key)) + data.draw(WHITE) + ":" + data.draw(WHITE) + json.dumps(value)
        for key, value in document.items()
        if _encodable(json.dumps(value, ensure_ascii=False)) and _encodable(key)
    ]
    if data.draw(st.booleans()):
        parts.insert(0, '"model": "first of two"')
    body = ("{" + ",".join(parts) + "}").encode()
    try:
        before = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    after = orjson.loads(replace_model(body, orjson.dumps(name)))
    assert after == before | {"model": name}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


POLICY = json.loads(policy_text(**keyed_policy({"name": "k", "scope": "key", "tokens_per_day": 9})))
ROUTE = json.loads(route_text("m", fallbacks=["n"]))


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in items for found in paths_of(each, (*path, key)))]


@many
@given(st.sampled_from([(POLICY, GatewayPolicy), (ROUTE, Route)]), st.data(), VALUES)
def test_a_changed_policy_is_loaded_or_refused_by_name(chosen: Any, data: st.DataObject, value: Any) -> None:
    """A document with anything anywhere is valid, or a `DocumentError` whose problems name file, line and field."""
    document, model = json.loads(json.dumps(chosen[0])), chosen[1]
    *parents, last = data.draw(st.sampled_from(paths_of(document)[1:]))
    place = document
    for step in parents:
        place = place[step]
    place[last] = value
    text = yaml.safe_dump(document)
    problems: tuple[Any, ...] | None = None
    try:
        parse_policy(text, model, source="policy.yaml")
    except DocumentError as exc:
        problems = tuple(exc.problems)
    assert problems is None or problems
    assert all("policy.yaml" in str(problem) for problem in problems or ())


@many
@given(st.text() | st.binary())
def test_any_text_as_a_policy_is_refused_by_name(text: str | bytes) -> None:
    """Neither YAML's aliases nor tags nor broken encodings raise anything but a `DocumentError`."""
    with pytest.raises(DocumentError):
        parse_policy(text, GatewayPolicy, source="policy.yaml")


JWT = JwtIssuer(issuer=ISSUER, audience=AUDIENCE, algorithms=("ES256",), jwks_url="https://idp/jwks")
TOKENS = TokenIssuer()
GOOD_TOKEN = TOKENS.mint("ec").encode()
VERIFY_KEY = parse_jwks(TOKENS.jwks(), ("ES256",))["ec"]
GOOD_KEY = new_key().credential.encode()


@many
@given(st.data())
def test_a_changed_token_is_never_accepted(data: st.DataObject) -> None:
    """Any bytes put anywhere into a good token: refused as a wrong credential, nothing else; never accepted."""
    good = GOOD_TOKEN
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 8))
    changed = good[:at] + data.draw(st.binary(max_size=8)) + good[at + cut :]
    if not looks_like_token(changed):
        return
    try:
        claims = verify_token(read_token(changed), VERIFY_KEY, JWT, time.time())
    except UnauthorizedError:
        return
    assert changed == good, claims


@many
@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "tenant", "x"]), VALUES))
def test_claims_of_any_shape_are_read_or_refused(claims: dict[str, Any]) -> None:
    """A well-signed token whose claims are anything: claims of the right types, or refused."""
    if not _finite(claims) or not _encodable(json.dumps(claims, ensure_ascii=False)):
        return
    header = {"alg": "ES256", "kid": "ec", "typ": "JWT"}
    every = TOKENS.claims() | claims
    raw = TOKENS.sign(ec_key(), "ES256", header, json.dumps(every).encode()).encode()
    try:
        verify_token(read_token(raw), VERIFY_KEY, JWT, time.time())
    except UnauthorizedError:
        return
    assert every["iss"] == ISSUER
    assert AUDIENCE in ([every["aud"]] if isinstance(every["aud"], str) else every["aud"])


@many
@given(st.data())
def test_a_changed_key_is_never_accepted(data: st.DataObject) -> None:
    """Any change of a key's text: not found; nothing raises, whatever the bytes."""
    ring, raw = KeyRing(SecretStr("pepper-" * 6)), GOOD_KEY
    record = KeyRecord(key_id_of(raw) or "", "acme", "n", ring.digest(raw.decode()), 1.0, (KeyScope.INFERENCE,), "r")
    ring.put([record])
    assert ring.verify(raw, time.time()) == record
    at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 4))
    changed = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + cut :]
    key_id_of(changed)
    assert ring.verify(changed, time.time()) is None or changed == raw


NAMES = [
    b"authorization", b"x-api-key", b"x-request-id", b"traceparent", b"tracestate", b"x-nexus-user", b"idempotency-key",
    b"x-request-timeout-seconds", b"x-envoy-expected-rq-timeout-ms",
]  # fmt: skip


@many
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)), max_size=6))
def test_headers_of_any_bytes_are_read_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """Ids are sane ones, deadlines are bounded, header lines that go on hold no line break; or a `GatewayError`."""
    try:
        head = read_head(headers, frozenset())
        assert request_id_of(head).decode().isprintable()
        seconds = timeout_of(head)
        credential_of(head.get(b"authorization"), head.get(b"x-api-key"))
    except GatewayError:
        return
    assert seconds is None or 0 < seconds <= 86_400
    trace = Trace(head.get(b"traceparent"), head.get(b"tracestate"), 0.0)
    lines = trace.upstream(trace.span_id)
    assert lines.count(b"\n") == lines.count(b"\r\n") == (2 if b"tracestate" in lines else 1)


@many
@given(st.integers(0, 10**7), st.integers(0, 10**12), st.integers(0, 10**12), st.none() | st.integers(1, 2**63))
def test_estimates_stay_finite(body: int, prompt: int, output: int, most: int | None) -> None:
    """Whatever engines report and clients ask for, an estimate is a whole number that a counter can hold."""
    estimate = Estimate()
    estimate.learn(max(1, body), max(1, prompt), output)
    assert 0 <= estimate.prompt_tokens(body) < 2**53
    assert 0 <= estimate.output_tokens(most) < 2**63 + 1
