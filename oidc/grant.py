"""A grant: what a person gave a site by one login. Pure; the store applies `redeem` and `refresh` atomically.

Code and access token are `<grant id>.<secret>`, a refresh token is `<grant id>.<family>.<secret>`; of each
secret the hash alone is kept. Only who was handed a refresh token knows the family, so with another secret
than the current one it is an old token: somebody uses it a second time, and the whole grant ends. So it does
where a code is used a second time (RFC 6749, 4.1.2; RFC 9700, 4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, replace

from oidc.errors import OAuthError

CODE_SECONDS = 60.0

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636, 4.1


class GrantRefused(Exception):
    """No such code or token, or not for this site, address or browser. Which, is told to nobody."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Times are Unix seconds, hashes SHA-256."""

    id: str
    site: str
    user_id: str
    session_id: str  # the browser's; the grant ends with it
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str  # S256
    auth_time: float
    created_at: float
    expires_at: float
    code_hash: bytes
    code_expires_at: float
    redeemed: bool = False
    family_hash: bytes = b""
    refresh_hash: bytes = b""
    access_hash: bytes = b""
    access_expires_at: float = 0.0
    access_scope: str = ""
    # The access token before the last refresh: requests with it may be on their way.
    former_access_hash: bytes = b""
    former_access_expires_at: float = 0.0
    former_access_scope: str = ""
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """The secrets of a fresh access token and refresh token, and the former's end."""

    access: str
    family: str  # the same in all refresh tokens of a grant
    refresh: str
    access_expires_at: float


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token is good for."""

    scope: str
    expires_at: float


def join(grant_id: str, secret: str) -> str:
    """The code or token as it goes out."""
    return f"{grant_id}.{secret}"


def split(token: str) -> tuple[str, str]:
    """The grant's id and the secret of a code or token; ("", "") where it is none of ours."""
    grant_id, dot, secret = token.partition(".")
    return (grant_id, secret) if dot and grant_id and secret else ("", "")


def split_refresh(token: str) -> tuple[str, str, str]:
    """The grant's id, the family and the secret of a refresh token; ("", "", "") where it is none."""
    grant_id, rest = split(token)
    family, secret = split(rest)
    return (grant_id, family, secret) if secret else ("", "", "")


def challenge_of(verifier: str) -> str:
    """The S256 challenge (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def redeem(
    grant: Grant, *, secret: str, site: str, redirect_uri: str, verifier: str, pair: Pair, now: float
) -> Grant:
    """The grant with its first tokens, or revoked where its code was redeemed before.

    Raises GrantRefused. A caller that cannot show what belongs to the code changes nothing.
    """
    _require(grant.site == site and _is(grant.code_hash, secret))
    _require(hmac.compare_digest(grant.redirect_uri.encode(), redirect_uri.encode("utf-8", "surrogatepass")))
    _require(bool(_VERIFIER.match(verifier)) and _same(challenge_of(verifier), grant.code_challenge))
    _require(not grant.revoked)
    if grant.redeemed:
        return replace(grant, revoked=True)
    _require(now < grant.code_expires_at)
    return _with(replace(grant, redeemed=True, family_hash=hash_of(pair.family)), pair, grant.scope)


def refresh(grant: Grant, *, secret: str, site: str, pair: Pair, scope: str = "") -> Grant:
    """The grant with new tokens, or revoked where the refresh token is an old one.

    `pair.family` is the one that came with `secret`. `scope` may ask for less than the grant's in the access
    token; the grant keeps what it has (RFC 6749, 6). Raises GrantRefused; OAuthError where it asks for more.
    """
    _require(grant.site == site and not grant.revoked and _is(grant.family_hash, pair.family))
    if not _is(grant.refresh_hash, secret):
        return replace(grant, revoked=True)
    asked, given = scope.split(), grant.scope.split()
    if not set(asked) <= set(given):
        raise OAuthError("invalid_scope", "scope asks for more than was given.")
    former = replace(
        grant,
        former_access_hash=grant.access_hash,
        former_access_expires_at=grant.access_expires_at,
        former_access_scope=grant.access_scope,
    )
    return _with(former, pair, " ".join(known for known in given if known in asked or not asked))


def access_by(grant: Grant, secret: str) -> Access | None:
    """What the access token with this secret is good for; None where it is not the grant's, or was ended."""
    access = None
    if grant.redeemed and not grant.revoked:
        if _is(grant.access_hash, secret):
            access = Access(grant.access_scope, grant.access_expires_at)
        elif _is(grant.former_access_hash, secret):
            access = Access(grant.former_access_scope, grant.former_access_expires_at)
    return access if access is not None and access.expires_at else None


def without_access(grant: Grant, secret: str) -> Grant:
    """The grant after the access token with this secret was given back."""
    if _is(grant.access_hash, secret):
        return replace(grant, access_expires_at=0.0)
    if _is(grant.former_access_hash, secret):
        return replace(grant, former_access_expires_at=0.0)
    return grant


def is_of_family(grant: Grant, family: str) -> bool:
    """Whether a refresh token with this family is the grant's, or was."""
    return not grant.revoked and _is(grant.family_hash, family)


def is_refresh_token(grant: Grant, family: str, secret: str) -> bool:
    """Whether it is the grant's current refresh token."""
    return is_of_family(grant, family) and _is(grant.refresh_hash, secret)


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _with(grant: Grant, pair: Pair, scope: str) -> Grant:
    return replace(
        grant,
        access_hash=hash_of(pair.access),
        access_expires_at=pair.access_expires_at,
        access_scope=scope,
        refresh_hash=hash_of(pair.refresh),
    )


def _is(kept: bytes, secret: str) -> bool:
    return bool(kept) and hmac.compare_digest(kept, hash_of(secret))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("ascii"), other.encode("ascii"))


def _require(condition: bool) -> None:
    if not condition:
        raise GrantRefused
