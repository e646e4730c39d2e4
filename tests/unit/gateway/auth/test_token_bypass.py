from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth.jwks import VerifyKey
from gateway.auth.refusals import WrongCredentialError
from gateway.auth.token import read_token, verify_token
from gateway.errors import ForbiddenError, UnauthorizedError
from serving.contracts.authentication import JwtIssuer
from tests.fakes.authentication import POLICY, Auth
from tests.fakes.token_issuer import ISSUER, TokenIssuer, b64, ec_key, jwk_of, rsa_key

FAR = 4_102_444_800  # the year 2100


def unsigned(issuer: TokenIssuer, algorithm: str, signature: str = "") -> str:
    return f"{b64({'alg': algorithm, 'kid': 'rsa'})}.{b64(issuer.claims())}.{signature}"


def confused(issuer: TokenIssuer, form: PublicFormat) -> str:
    """Sign with the public key as an HMAC secret, as CVE-2015-9235 does."""
    encoding = Encoding.DER if form is PublicFormat.PKCS1 else Encoding.PEM
    secret = rsa_key().public_key().public_bytes(encoding, form)
    signed = f"{b64({'alg': 'HS256', 'kid': 'rsa'})}.{b64(issuer.claims())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def tampered(issuer: TokenIssuer) -> str:
    head, _, signature = issuer.mint().split(".")
    return f"{head}.{b64(issuer.claims(sub='root'))}.{signature}"


def self_signed(issuer: TokenIssuer, **header: Any) -> str:
    """Sign with a key of the attacker's own, and bring that key in the header."""
    own = ec.generate_private_key(ec.SECP256R1())
    head = {"alg": "ES256", "kid": "ec", "jwk": jwk_of(own, "ES256", kid="ec")} | header
    return issuer.sign(own, "ES256", head, issuer.claims())


BYPASSES: dict[str, Callable[[TokenIssuer], str]] = {
    "alg none, no signature": lambda i: unsigned(i, "none"),
    "alg none, a signature": lambda i: unsigned(i, "none", b64(b"x")),
    "alg NONE": lambda i: unsigned(i, "NONE", b64(b"x")),
    "alg empty": lambda i: unsigned(i, "", b64(b"x")),
    "alg is no text": lambda i: f"{b64({'alg': ['RS256'], 'kid': 'rsa'})}.{b64(i.claims())}.{b64(b'x')}",
    "no alg": lambda i: i.mint(header={"alg": ...}),
    "HS256 with the public key as PEM": lambda i: confused(i, PublicFormat.SubjectPublicKeyInfo),
    "HS256 with the public key as DER": lambda i: confused(i, PublicFormat.PKCS1),
    "an algorithm that is not the issuer's": lambda i: i.sign(
        rsa_key(), "RS512", {"alg": "RS512", "kid": "rsa"}, i.claims()
    ),
    "another algorithm than the key's": lambda i: i.sign(ec_key(), "ES256", {"alg": "ES256", "kid": "rsa"}, i.claims()),
    "alg says RS256, key is for ES256": lambda i: i.sign(rsa_key(), "RS256", {"alg": "RS256", "kid": "ec"}, i.claims()),
    "alg in other letters": lambda i: i.mint(header={"alg": "es256"}),
    "payload changed": tampered,
    "signature cut": lambda i: i.mint()[:-8],
    "signature of zeros": lambda i: ".".join([*i.mint().split(".")[:2], b64(bytes(64))]),
    "signature empty": lambda i: ".".join([*i.mint().split(".")[:2], ""]),
    "own key in jwk": self_signed,
    "own key in jku": lambda i: self_signed(i, jku="https://evil.example/jwks", jwk=None),
    "own key in x5u and x5c": lambda i: self_signed(i, x5u="https://evil.example/c", x5c=["AAAA"]),
    "no kid": lambda i: i.mint(header={"kid": ...}),
    "kid empty": lambda i: i.mint(header={"kid": ""}),
    "kid is a number": lambda i: i.mint(header={"kid": 1}),
    "kid is null": lambda i: i.mint(header={"kid": None}),
    "kid is a path": lambda i: i.mint(header={"kid": "../../../../dev/null"}),
    "kid is SQL": lambda i: i.mint(header={"kid": "ec' UNION SELECT 'x"}),
    "kid in other letters": lambda i: i.mint(header={"kid": "EC"}),
    "kid with a null": lambda i: i.mint(header={"kid": "ec\x00"}),
    "kid too long": lambda i: i.mint(header={"kid": "e" * 257}),
    "crit": lambda i: i.mint(header={"crit": ["exp"]}),
    "crit empty": lambda i: i.mint(header={"crit": []}),
    "b64 false": lambda i: i.mint(header={"b64": False}),
    "typ of another kind": lambda i: i.mint(header={"typ": "logout+jwt"}),
    "typ is no text": lambda i: i.mint(header={"typ": ["JWT"]}),
    "expired": lambda i: i.mint(exp=time.time() - 31),
    "exp as text": lambda i: i.mint(exp=str(FAR)),
    "exp true": lambda i: i.mint(exp=True),
    "exp null": lambda i: i.mint(exp=None),
    "exp in a list": lambda i: i.mint(exp=[FAR]),
    "exp NaN": lambda i: i.sign(ec_key(), "ES256", {"alg": "ES256", "kid": "ec"}, b'{"exp":NaN}'),
    "exp infinite": lambda i: i.mint(exp=float("inf")),
    "no exp": lambda i: i.mint(exp=...),
    "not yet valid": lambda i: i.mint(nbf=time.time() + 60),
    "nbf true": lambda i: i.mint(nbf=True),
    "nbf as text": lambda i: i.mint(nbf="0"),
    "issued in the future": lambda i: i.mint(iat=time.time() + 60),
    "wrong issuer": lambda i: i.mint(iss="https://evil.example"),
    "issuer with a slash more": lambda i: i.mint(iss=ISSUER + "/"),
    "issuer in other letters": lambda i: i.mint(iss=ISSUER.upper()),
    "issuer in look-alike letters": lambda i: i.mint(iss=ISSUER.replace("o", "\u043e")),
    "issuer in wide letters": lambda i: i.mint(iss=ISSUER.replace("i", "\uff49")),
    "issuer with a zero-width space": lambda i: i.mint(iss=ISSUER + "\u200b"),
    "issuer in a list": lambda i: i.mint(iss=[ISSUER]),
    "no issuer": lambda i: i.mint(iss=...),
    "wrong audience": lambda i: i.mint(aud="billing"),
    "audience as part of a text": lambda i: i.mint(aud="nexus billing"),
    "audience empty list": lambda i: i.mint(aud=[]),
    "audience as an object": lambda i: i.mint(aud={"nexus": True}),
    "no audience": lambda i: i.mint(aud=...),
    "no user": lambda i: i.mint(sub=...),
    "user empty": lambda i: i.mint(sub=""),
    "user taken for an address, which no limit of users counts": lambda i: i.mint(sub="\0address:1"),
    "user is a number": lambda i: i.mint(sub=1),
    "user too long": lambda i: i.mint(sub="a" * 257),
    "user with half a character": lambda i: i.sign(
        ec_key(), "ES256", {"alg": "ES256", "kid": "ec"}, json.dumps(i.claims(sub="\ud800")).encode()
    ),
    "claims are a list": lambda i: i.sign(ec_key(), "ES256", {"alg": "ES256", "kid": "ec"}, b"[]"),
    "claims are no JSON": lambda i: i.sign(ec_key(), "ES256", {"alg": "ES256", "kid": "ec"}, b"{"),
    "claims nested deep": lambda i: i.sign(ec_key(), "ES256", {"alg": "ES256", "kid": "ec"}, b"[" * 2000),
    "header nested deep": lambda i: f"{b64(b'[' * 2000)}.{b64(i.claims())}.{b64(b'x')}",
    "two parts": lambda i: i.mint().rpartition(".")[0],
    "four parts": lambda i: i.mint() + ".AAAA",
    "five parts, as encrypted": lambda i: i.mint() + ".AAAA.AAAA",
    "padding": lambda i: i.mint() + "=",
    "standard base64 letters": lambda i: i.mint() + "+/",
    "white space inside": lambda i: i.mint().replace(".", ". ", 1),
    "a line end behind": lambda i: i.mint() + "\n",
    "a full-width dot": lambda i: i.mint().replace(".", "\uff0e", 1),
    "oversized": lambda i: i.mint(x="a" * 9000),
    "JSON serialisation": lambda i: json.dumps({"payload": b64(i.claims()), "signatures": []}),
}  # fmt: skip


@pytest.mark.parametrize("name", BYPASSES)
async def test_a_token_that_is_not_right_is_refused(auth: Auth, name: str) -> None:
    """Each way around a token's checks ends in the same 401, whether the issuer's keys are known or not."""
    token = BYPASSES[name](auth.issuer)
    for _ in range(2):
        with pytest.raises(UnauthorizedError) as refused:
            await auth.identify_slowly(token)
        assert refused.value.message.startswith("expected a valid API key or token")
        assert token not in str(refused.value)
        await auth.identify_slowly(auth.issuer.mint())
    assert sum(auth.refusals().values()) == 2


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["billing", "nexus"]},
        {"nbf": 1, "iat": 1},
        {"exp": FAR},
        {"exp": float(FAR)},
        {"sub": "ánn 日本"},
    ],
)
async def test_a_right_token_passes(auth: Auth, kid: str, changes: dict[str, Any]) -> None:
    """The table's tokens are refused for what is wrong with them: right ones of every kind of key pass."""
    principal = await auth.identify_slowly(auth.issuer.mint(kid, **changes))
    assert principal.user == str(changes.get("sub", "ann")).encode()


@pytest.mark.parametrize("header", [{"typ": "at+jwt"}, {"typ": "jwt"}, {"typ": ...}, {"jku": "https://evil.example"}])
async def test_headers_that_do_not_matter_do_not_matter(auth: Auth, header: dict[str, Any]) -> None:
    """Accepted types pass, and what a token says about its own key is not looked at."""
    assert await auth.identify_slowly(auth.issuer.mint(header=header))


async def test_leeway_is_what_the_policy_says(auth: Auth) -> None:
    """A token 29 s too old or too young passes with the 30 s of the policy."""
    assert await auth.identify_slowly(auth.issuer.mint(exp=auth.now - 29))
    assert await auth.identify_slowly(auth.issuer.mint(nbf=auth.now + 29, iat=auth.now + 29))


@pytest.mark.parametrize(
    "tenant", ["evil", "Acme", "acme ", "\u0430cme", "\uff41cme", "", 1, None, ["acme"], {"a": 1}, ...]
)
async def test_an_unknown_tenant_is_forbidden(auth: Auth, tenant: object) -> None:
    """A right token whose tenant the policy does not list gets 403, look-alike letters included."""
    with pytest.raises(ForbiddenError, match="tenant that the policy lists"):
        await auth.identify_slowly(auth.issuer.mint(tenant=tenant))
    assert auth.refusals() == {"tenant": 1}


async def test_keys_of_one_issuer_do_not_verify_tokens_of_another(auth: Auth) -> None:
    """Two issuers that trust other keys under the same id do not speak for one another."""
    own = ec.generate_private_key(ec.SECP256R1())
    other = {**POLICY["authentication"]["jwt"][0], "issuer": "https://other.example", "jwks_url": "https://other/jwks"}
    jwt = [*POLICY["authentication"]["jwt"], other]
    auth.policy = auth.policy.model_validate(POLICY | {"authentication": {"required": True, "jwt": jwt}})
    mine = auth.issuer.jwks()

    async def fetch(url: str) -> bytes:
        theirs = json.dumps({"keys": [jwk_of(own, "ES256", kid="ec")]}).encode()
        return theirs if "other" in url else mine

    auth.issuer.fetch = fetch  # type: ignore[method-assign]
    head = {"alg": "ES256", "kid": "ec"}
    assert await auth.identify_slowly(auth.issuer.mint())
    assert await auth.identify_slowly(
        auth.issuer.sign(own, "ES256", head, auth.issuer.claims(iss="https://other.example"))
    )
    for token in (
        auth.issuer.sign(own, "ES256", head, auth.issuer.claims()),
        auth.issuer.mint(iss="https://other.example"),
    ):
        with pytest.raises(UnauthorizedError):
            await auth.identify_slowly(token)


def test_a_key_verifies_only_its_own_algorithms() -> None:
    """A token whose algorithm the issuer allows is refused when the key that it names is not for that algorithm."""
    issuer = JwtIssuer.model_validate(POLICY["authentication"]["jwt"][0])
    token = read_token(TokenIssuer().mint("rsa").encode())
    right = rsa_key().public_key()
    assert verify_token(token, VerifyKey(right, frozenset({"RS256"})), issuer, time.time()).user == "ann"
    with pytest.raises(WrongCredentialError):
        verify_token(token, VerifyKey(right, frozenset({"PS256"})), issuer, time.time())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["whole", "head", "body", "signature"]))
def test_any_bytes_end_in_a_refusal(raw: bytes, where: str) -> None:
    """Whatever stands in a token or one of its parts, reading it gives a refusal or a token, never another error."""
    part = b64(raw)
    good = TokenIssuer().mint("ed").split(".")
    token = {
        "whole": raw,
        "head": f"{part}.{good[1]}.{good[2]}".encode(),
        "body": f"{good[0]}.{part}.{good[2]}".encode(),
        "signature": f"{good[0]}.{good[1]}.{part}".encode(),
    }[where]
    issuer = JwtIssuer.model_validate(POLICY["authentication"]["jwt"][0])
    key = VerifyKey(TokenIssuer().keys["ed"][0].public_key(), frozenset({"EdDSA"}))
    with pytest.raises(WrongCredentialError):
        verify_token(read_token(token), key, issuer, time.time())
