"""What tokens say, and what we say of ourselves. Pure: claims in, claims out; `keys.py` signs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oidc.keys import ALGORITHMS
from oidc.requests import IDENTITIES, SCOPES, UNIONID

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TOKEN_SECONDS = 120  # Back-Channel Logout 1.0, 2.4: two minutes at most
AUTHORIZE, TOKEN, USERINFO = "/oauth2/authorize", "/oauth2/token", "/oauth2/userinfo"
JWKS, INTROSPECT, REVOKE, LOGOUT = "/oauth2/jwks", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/logout"

# How the person was recognised. `user` (RFC 8176) says that they agreed on their phone; without it a scan
# alone has logged them in.
AGREED = "user"
ACR_SCANNED = "urn:saoma:scanned"
ACR_CONFIRMED = "urn:saoma:confirmed"


@dataclass(frozen=True, slots=True)
class Person:
    """What is told of somebody, as far as the scope goes."""

    id: str
    previous_ids: Sequence[str]
    name: str
    picture: str  # at our address
    identities: Sequence[Mapping[str, Any]]
    unionid: str


def person_claims(person: Person, scope: str) -> dict[str, Any]:
    """`previous_subs` are ids that were merged into `sub`: records kept under them are this person's."""
    scopes = scope.split()
    claims: dict[str, Any] = {"sub": person.id}
    if person.previous_ids:
        claims["previous_subs"] = list(person.previous_ids)
    if "profile" in scopes:
        claims["name"] = person.name
        if person.picture:
            claims["picture"] = person.picture
    if IDENTITIES in scopes:
        claims[IDENTITIES] = list(person.identities)
        if person.unionid:
            claims[UNIONID] = person.unionid
    return claims


def id_claims(
    person: Person,
    scope: str,
    *,
    issuer: str,
    site: str,
    session_id: str,
    provider: str,
    agreed: bool,
    auth_time: float,
    nonce: str,
    now: float,
    expires_at: float,
) -> dict[str, Any]:
    """Of an ID token (OpenID Connect Core, 2)."""
    amr = [provider, AGREED] if agreed else [provider]
    claims = {
        **person_claims(person, scope),
        "iss": issuer,
        "aud": site,
        "iat": int(now),
        "exp": int(expires_at),
        "auth_time": int(auth_time),
        "sid": session_id,
        "amr": amr,
        "acr": ACR_CONFIRMED if agreed else ACR_SCANNED,
    }
    if nonce:
        claims["nonce"] = nonce
    return claims


def logout_claims(*, issuer: str, site: str, sub: str, sid: str, jti: str, now: float) -> dict[str, Any]:
    """Of a logout token (Back-Channel Logout 1.0, 2.4)."""
    return {
        "iss": issuer,
        "aud": site,
        "iat": int(now),
        "exp": int(now) + LOGOUT_TOKEN_SECONDS,
        "jti": jti,
        "sub": sub,
        "sid": sid,
        "events": {LOGOUT_EVENT: {}},
    }


def discovery(issuer: str, locales: Sequence[str]) -> dict[str, Any]:
    """The provider's metadata (OpenID Connect Discovery, 3; RFC 8414, 2)."""
    secret_methods = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "userinfo_endpoint": issuer + USERINFO,
        "jwks_uri": issuer + JWKS,
        "introspection_endpoint": issuer + INTROSPECT,
        "revocation_endpoint": issuer + REVOKE,
        "end_session_endpoint": issuer + LOGOUT,
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(ALGORITHMS),
        "token_endpoint_auth_methods_supported": [*secret_methods, "none"],
        "revocation_endpoint_auth_methods_supported": [*secret_methods, "none"],
        "introspection_endpoint_auth_methods_supported": secret_methods,
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "acr_values_supported": [ACR_SCANNED, ACR_CONFIRMED],
        "claims_supported": [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "amr",
            "acr",
            "sid",
            "name",
            "picture",
            "previous_subs",
            IDENTITIES,
            UNIONID,
        ],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "ui_locales_supported": list(locales),
    }
