"""The keys that sign tokens, and when each has its turn. Pure: fresh keys and the time are passed in.

A key is published before its turn, so that whoever keeps our key set has it by then, and stays published
after it, so that what it signed can be verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet, RSAKey
from joserfc.jwk import Key as AnyKey

ALGORITHMS = ("RS256", "ES256")
RSA_BITS = 3072  # as strong as P-256 (NIST SP 800-57, 5.6.1.1)
AHEAD_SECONDS = 2 * 86400.0  # that a key is published before its turn
AFTER_SECONDS = 7 * 86400.0  # and after it
KNOWN_SECONDS = 3600.0  # by then whoever keeps our key set has looked again
TOKEN_SECONDS = 86400.0  # that a signed token is good for, at most

PrivateKey = RSAKey | ECKey


@dataclass(frozen=True, slots=True)
class Turn:
    """When a key signs, and until when it is published. Unix seconds."""

    number: int  # the first is 1
    signs_from: float
    signs_until: float

    @property
    def expires_at(self) -> float:
        return self.signs_until + AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its turn."""

    private: PrivateKey
    algorithm: str
    turn: Turn


def next_turn(known: Iterable[Turn], lifetime: float, now: float) -> Turn | None:
    """The turn of the key that is to be made now; None while the last one's is long enough."""
    last = max(known, key=lambda turn: turn.number, default=None)
    if last is None:
        return Turn(1, now, now + lifetime)
    ahead = min(AHEAD_SECONDS, lifetime / 2)
    if now < last.signs_until - ahead:
        return None
    # After a pause the last one goes on until everybody knows the next, if its own end is not too near.
    known_at = min(now + KNOWN_SECONDS, last.expires_at - TOKEN_SECONDS)
    start = max(last.signs_until, known_at, now)
    return Turn(last.number + 1, start, start + lifetime)


def new_key(algorithm: str, key_id: str) -> PrivateKey:
    """A fresh key; the cryptographic library has the only good source of chance for one."""
    parameters: KeyParameters = {"kid": key_id, "use": "sig", "alg": algorithm}
    if algorithm == "RS256":
        return RSAKey.generate_key(RSA_BITS, parameters)
    return ECKey.generate_key("P-256", parameters)


def signing_key(keys: Iterable[Key], algorithm: str, now: float) -> Key | None:
    """Whose turn it is: the newest that has begun."""
    begun = [key for key in keys if key.algorithm == algorithm and key.turn.signs_from <= now]
    return max(begun, key=lambda key: key.turn.number, default=None)


def public_set(keys: Iterable[Key], now: float) -> dict[str, Any]:
    """The key set for everybody (RFC 7517, 5)."""
    return {"keys": [dict(key.private.as_dict(private=False)) for key in keys if now < key.turn.expires_at]}


def sign(key: Key, claims: Mapping[str, Any], kind: str = "JWT") -> str:
    header = {"alg": key.algorithm, "kid": key.private.kid, "typ": kind}
    return jwt.encode(header, dict(claims), key.private)


def verified(keys: Iterable[Key], token: str, kind: str = "JWT") -> dict[str, Any] | None:
    """The claims of a token of this kind that we signed, however old; None for any other."""
    ours: list[AnyKey] = [key.private for key in keys]
    if not ours:
        return None
    try:
        decoded = jwt.decode(token, KeySet(ours), algorithms=list(ALGORITHMS))
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return dict(decoded.claims) if decoded.header.get("typ") == kind else None
