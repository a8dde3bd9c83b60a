"""The app backend's side: keys, and tokens signed with them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

ISSUER, AUDIENCE = "https://app.example.com", "saoma"
SECRET = "a secret that the app's backend shares with us"
NOW = 1_800_000_000.5

PRIVATE: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    "X25519": x25519.X25519PrivateKey.generate(),
}


def public_pem(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(private: Any) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def encoded(data: bytes | str) -> str:
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Backend:
    """Signs with one algorithm and key; header and payload go out as they are given, right or wrong."""

    algorithm: str
    key: Any

    def token(self, *, header: dict[str, Any] | str | None = None, **claims: Any) -> str:
        """A valid token but for what is given; None takes a claim away."""
        told = {name: value for name, value in {**claims_now(), **claims}.items() if value is not None}
        if not isinstance(header, str):
            header = json.dumps({"alg": self.algorithm, **(header or {})})
        return self.signed(header, json.dumps(told))

    def signed(self, header: str, payload: str) -> str:
        signing = f"{encoded(header)}.{encoded(payload)}"
        return f"{signing}.{encoded(self.signature(signing.encode()))}"

    def signature(self, data: bytes) -> bytes:
        match self.algorithm:
            case "HS256":
                made = hmac.HMAC(self.key, hashes.SHA256())
                made.update(data)
                return made.finalize()
            case "RS256":
                return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
            case "PS256":
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
                return self.key.sign(data, pss, hashes.SHA256())
            case "ES256":
                r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
            case _:
                return self.key.sign(data)


def claims_now(now: float = NOW) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "iat": int(now), "exp": int(now) + 60}


BACKENDS = {
    "HS256": Backend("HS256", SECRET.encode()),
    "RS256": Backend("RS256", PRIVATE["RSA"]),
    "PS256": Backend("PS256", PRIVATE["RSA"]),
    "ES256": Backend("ES256", PRIVATE["P-256"]),
    "EdDSA": Backend("EdDSA", PRIVATE["Ed25519"]),
    "Ed25519": Backend("Ed25519", PRIVATE["Ed25519"]),
}
