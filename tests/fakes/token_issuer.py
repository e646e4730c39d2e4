"""An identity provider: mints JSON Web Tokens, right ones and wrong ones, and answers with its key set."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.auth.jwks import JwksError

ISSUER = "https://idp.example/realms/one"
AUDIENCE = "nexus"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def b64(value: bytes | dict[str, Any]) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk_of(key: Any, algorithm: str, **fields: Any) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"} | fields


class TokenIssuer:
    """Has one key of each kind: `rsa`, `ec`, `ed`. `fetch` is what a gateway calls; `broken` makes it fail."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[Any, str]] = {
            "rsa": (rsa_key(), "RS256"),
            "ec": (ec_key(), "ES256"),
            "ed": (ed_key(), "EdDSA"),
        }
        self.extra: list[dict[str, Any]] = []
        self.fetches = 0
        self.broken = False

    def jwks(self) -> bytes:
        keys = [jwk_of(key, algorithm, kid=kid) for kid, (key, algorithm) in self.keys.items()]
        return json.dumps({"keys": keys + self.extra}).encode()

    async def fetch(self, _url: str) -> bytes:
        self.fetches += 1
        if self.broken:
            raise JwksError("expected status 200; got 500")
        return self.jwks()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = time.time()
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "sub": "ann", "tenant": "acme"} | changes
        return {name: value for name, value in claims.items() if value is not ...}

    def mint(self, kid: str = "ec", header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a signed token; `...` removes a claim or a header."""
        key, algorithm = self.keys[kid]
        head = {"alg": algorithm, "kid": kid, "typ": "JWT"} | (header or {})
        return self.sign(key, algorithm, {n: v for n, v in head.items() if v is not ...}, self.claims(**changes))

    @staticmethod
    def sign(key: Any, algorithm: str, header: dict[str, Any], claims: dict[str, Any] | bytes) -> str:
        """Sign whatever header says with the key and algorithm that are given."""
        signed = f"{b64(header)}.{b64(claims)}"
        maker = jwt.get_algorithm_by_name(algorithm)
        return f"{signed}.{b64(maker.sign(signed.encode(), maker.prepare_key(key)))}"
