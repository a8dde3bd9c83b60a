"""What ID tokens, logout tokens and the discovery document say."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest

from oidc.requests import IDENTITIES, SCOPES, UNIONID
from oidc.tokens import LOGOUT_EVENT, Person, discovery, id_claims, logout_claims, person_claims

ISSUER = "https://login.example.com"
NOW = 1_800_000_000.75
WEI = Person(
    id="user-1",
    previous_ids=("user-0",),
    name="小王",
    picture="https://login.example.com/pictures/a/b",
    identities=({"provider": "wechat", "subject": "oWei", "following": True},),
    unionid="union-wei",
)
BARE = Person(id="user-2", previous_ids=(), name="WeChat user", picture="", identities=(), unionid="")


def identity(person: Person = WEI, scope: str = "openid", **changes) -> dict:
    given = {
        "issuer": ISSUER,
        "site": "shop",
        "session_id": "session",
        "provider": "wechat",
        "agreed": False,
        "auth_time": NOW - 60,
        "nonce": "n0nce",
        "now": NOW,
        "expires_at": NOW + 600,
    }
    return id_claims(person, scope, **{**given, **changes})


ALL_SCOPES = list(chain.from_iterable(combinations(SCOPES, count) for count in range(len(SCOPES) + 1)))


@pytest.mark.parametrize("scopes", ALL_SCOPES)
def test_of_a_person_no_more_is_told_than_the_scope_says(scopes):
    claims = person_claims(WEI, " ".join(scopes))
    assert claims["sub"] == "user-1"
    assert claims["previous_subs"] == ["user-0"]
    assert ("name" in claims, "picture" in claims) == ("profile" in scopes,) * 2
    assert (IDENTITIES in claims, UNIONID in claims) == (IDENTITIES in scopes,) * 2
    told = {"sub", "previous_subs", "name", "picture", IDENTITIES, UNIONID}
    assert claims.keys() <= told


def test_what_is_not_known_is_not_told():
    everything = " ".join(SCOPES)
    assert person_claims(BARE, everything) == {"sub": "user-2", "name": "WeChat user", IDENTITIES: []}


def test_an_identity_as_it_was_agreed():
    claims = person_claims(WEI, IDENTITIES)
    assert claims[IDENTITIES] == [{"provider": "wechat", "subject": "oWei", "following": True}]
    assert claims[UNIONID] == "union-wei"


def test_an_id_token():
    assert identity(BARE) == {
        "iss": ISSUER,
        "sub": "user-2",
        "aud": "shop",
        "iat": int(NOW),
        "exp": int(NOW + 600),
        "auth_time": int(NOW - 60),
        "nonce": "n0nce",
        "sid": "session",
        "amr": ["wechat"],
        "acr": "urn:saoma:scanned",
    }


def test_without_a_nonce_there_is_none():
    assert "nonce" not in identity(nonce="")


@pytest.mark.parametrize(
    ("provider", "agreed", "amr", "acr"),
    [
        ("wechat", False, ["wechat"], "urn:saoma:scanned"),
        ("wechat", True, ["wechat", "user"], "urn:saoma:confirmed"),
        ("app", True, ["app", "user"], "urn:saoma:confirmed"),
    ],
)
def test_how_somebody_was_recognised(provider, agreed, amr, acr):
    """Rule 4: that nothing was confirmed is visible in `amr`."""
    claims = identity(provider=provider, agreed=agreed)
    assert (claims["amr"], claims["acr"]) == (amr, acr)


def test_no_claim_of_a_person_stands_in_the_place_of_ours():
    claims = identity(replace(WEI, id="user-9"), " ".join(SCOPES))
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "shop", "user-9")


def test_a_logout_token():
    claims = logout_claims(issuer=ISSUER, site="shop", sub="user-1", sid="session", jti="id", now=NOW)
    assert claims == {
        "iss": ISSUER,
        "aud": "shop",
        "iat": int(NOW),
        "exp": int(NOW) + 120,
        "jti": "id",
        "sub": "user-1",
        "sid": "session",
        "events": {LOGOUT_EVENT: {}},
    }
    assert "nonce" not in claims, "it must never pass for an ID token (Back-Channel Logout 1.0, 2.4)"


def test_the_discovery_document_is_complete():
    document = discovery(ISSUER, ["zh-CN", "en"])
    assert document["issuer"] == ISSUER
    addresses = [value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) == 7
    assert all(address.startswith(f"{ISSUER}/oauth2/") for address in addresses)
    required = {  # OpenID Connect Discovery, 3
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
    assert required <= document.keys()
    assert "RS256" in document["id_token_signing_alg_values_supported"]
    assert "none" not in document["introspection_endpoint_auth_methods_supported"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    told = identity(WEI, " ".join(SCOPES)).keys()
    assert told == set(document["claims_supported"])
