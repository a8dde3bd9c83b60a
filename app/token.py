"""The app's JWT: issued by the team's own backend to the phone, verified here (RFC 7519, RFC 8725).

The algorithm is fixed by the key, never by the token; issuer and audience match exactly; a token says who
it is about, when it was made and when it ends, and that end is near.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey

MAX_BYTES = 8 * 1024
MAX_LIFETIME = 600  # seconds that `exp` may be ahead
LEEWAY = 30  # seconds that the backend's clock may differ from ours
MAX_SUBJECT = 128
MIN_SECRET_BYTES = 32
MIN_RSA_BITS = 2048
MAX_NAME = 64
MAX_REMEMBERED = 1000  # tokens; the oldest goes
JOINERS = "\u200c\u200d"  # in Persian names and in emoji of several parts

Keys: TypeAlias = "Key | KeySet"

# What each kind of public key may sign with; HS256 belongs to a shared secret alone (RFC 8725, 3.1).
_ALGORITHMS: Mapping[type, frozenset[str]] = {
    OctKey: frozenset({"HS256"}),
    RSAKey: frozenset({"RS256", "PS256"}),
    ECKey: frozenset({"ES256"}),
    OKPKey: frozenset({"EdDSA", "Ed25519"}),
}
PUBLIC_KEY_ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA", "Ed25519"})

# RFC 9864 prefers the name Ed25519; the library would warn of each token that has the older one.
_EDDSA = copy.copy(jws.JWSRegistry.algorithms["EdDSA"])
_EDDSA.security_warning = None


class _Registry(jws.JWSRegistry):
    algorithms = {**jws.JWSRegistry.algorithms, _EDDSA.name: _EDDSA}  # noqa: RUF012  # as in the base


class _Strict(json.JSONDecoder):
    """Refuses an object that names a member twice: two readers could see two persons in it."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


class TokenRefused(Exception):
    """Not a token of the app's, or not any longer. Which check failed is told to the log alone."""

    def __init__(self, reason: str) -> None:
        """`reason` is in words of ours: nothing of the token is in it."""
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Claims:
    """Who is scanning, as the app's backend says. `id` names the token: it confirms once."""

    subject: str
    id: str
    name: str = ""
    picture: str = ""
    ends_at: float = field(default=0.0, compare=False)  # the token; Unix seconds


@dataclass(frozen=True, slots=True)
class Policy:
    issuer: str
    audience: str
    algorithms: frozenset[str]


def import_key(text: str) -> Key:
    """A shared secret of 32 bytes or more, or a PEM public key (RSA, P-256, Ed25519). Raises ValueError."""
    if "PRIVATE KEY" in text:
        raise ValueError("should be the public key; the private one stays with the app's backend")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # what the library warns of is refused below
        return _public_key(text) if "-----BEGIN" in text else _shared_secret(text)


def _public_key(text: str) -> Key:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
        if usable(key):
            return key
    raise ValueError(f"should be a PEM public key (RSA of {MIN_RSA_BITS} bits or more, P-256 or Ed25519)")


def _shared_secret(text: str) -> Key:
    if len(text.strip().encode("utf-8")) < MIN_SECRET_BYTES:
        raise ValueError(f"a shared secret has {MIN_SECRET_BYTES} bytes or more")
    # Whoever knows a public key could sign with it as the secret.
    if text.lstrip().startswith(("{", "ssh-", "ecdsa-")) or _der(text):
        raise ValueError("should be a shared secret or a public key as PEM (-----BEGIN PUBLIC KEY-----)")
    return OctKey.import_key(text)


def _der(text: str) -> bool:
    """Whether it is a key without PEM's first and last line."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return False
    try:
        OctKey.import_key(content)  # refuses asymmetric keys
    except ValueError:
        return True
    return False


def usable(key: Key) -> bool:
    """Whether one of our algorithms goes with the key."""
    if isinstance(key, RSAKey):
        return key.raw_value.key_size >= MIN_RSA_BITS
    if isinstance(key, ECKey):
        return key.curve_name == "P-256"
    return isinstance(key, OctKey) or key.curve_name == "Ed25519"


def algorithms_of(key: Key) -> frozenset[str]:
    """What tokens may be signed with under this key."""
    return _ALGORITHMS[type(key)]


def verify(token: str, keys: Keys, policy: Policy, now: float) -> Claims:
    """The person in `token`. Raises TokenRefused for everything else."""
    if len(token) > MAX_BYTES:
        raise TokenRefused("too long")
    registry = jwt.JWTClaimsRegistry(
        now=int(now),
        leeway=LEEWAY,
        iss={"essential": True, "value": policy.issuer},
        aud={"essential": True},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        algorithms = _Registry(algorithms=sorted(policy.algorithms))
        decoded = jwt.decode(token, keys, registry=algorithms, decoder_cls=_Strict)
        json.loads(base64.urlsafe_b64decode(f"{token.partition('.')[0]}=="), cls=_Strict)
        claims = decoded.claims
        registry.validate(claims)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TokenRefused(_reason(error)) from error
    # We know no extension, and a JWT's payload is always base64 (RFC 7797, 7).
    if "crit" in decoded.header or "b64" in decoded.header:
        raise TokenRefused("crit or b64")
    _require_times(claims, now)
    # Meant for us alone: whoever else it is meant for could show it here as their user's.
    if claims["aud"] not in (policy.audience, [policy.audience]):
        raise TokenRefused("aud")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise TokenRefused("sub")
    name, picture = _text(claims, "name")[:MAX_NAME], _text(claims, "picture")
    return Claims(subject, _id(token, claims), name, picture, claims["exp"])


class Verifier:
    """`verify`, which remembers: an app shows its token when it scans, and again when it confirms.

    By the same keys nothing becomes wrong with a token until its end, and only its digest is kept.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._found: OrderedDict[bytes, tuple[Claims, Keys, float]] = OrderedDict()

    def verify(self, token: str, keys: Keys, now: float) -> Claims:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        if digest in self._found:
            claims, used, at = self._found[digest]
            if used is keys and at <= now < claims.ends_at:
                return claims
        claims = verify(token, keys, self._policy, now)
        self._found[digest] = claims, keys, now
        self._found.move_to_end(digest)
        if len(self._found) > MAX_REMEMBERED:
            self._found.popitem(last=False)
        return claims


def key_id(token: str) -> str | None:
    """The `kid` that the token names, unverified: says which key to look for, nothing more."""
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        return None
    kid = header.get("kid") if isinstance(header, dict) else None
    return kid if isinstance(kid, str) else None


def _reason(error: Exception) -> str:
    """The library's name for it, and the claim that it is about, of those that we ask for."""
    if not isinstance(error, JoseError):
        return "malformed"
    return f"{error.error} {getattr(error, 'claim', '')}".rstrip()


def _require_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("exp", "iat"):
        if isinstance(claims[name], bool) or not isinstance(claims[name], (int, float)):
            raise TokenRefused(f"{name} is no number")
    if claims["exp"] > now + MAX_LIFETIME + LEEWAY or claims["exp"] <= claims["iat"]:
        raise TokenRefused("exp is too far from iat or from now")


def _id(token: str, claims: Mapping[str, Any]) -> str:
    """`jti`, or what was signed where it has none; hashed, as it is stored.

    Never the signature: anybody can turn one of ES256 into a second one that is valid, too.
    """
    jti = claims.get("jti")
    named = f"{claims['iss']} {jti}" if isinstance(jti, str) and jti else token.rpartition(".")[0]
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        return ""
    kept = (character for character in value if character.isprintable() or character in JOINERS)
    return "".join(kept).strip()[:1024]
