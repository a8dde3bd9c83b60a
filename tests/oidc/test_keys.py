"""Whose turn it is to sign, what is published when, and that nobody else's token passes."""

from __future__ import annotations

import base64
import hmac
import json
import random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from pydantic import ValidationError

from config.sections import Oidc
from oidc.keys import (
    AFTER_SECONDS,
    AHEAD_SECONDS,
    ALGORITHMS,
    KNOWN_SECONDS,
    TOKEN_SECONDS,
    Key,
    Turn,
    new_key,
    next_turn,
    public_set,
    sign,
    signing_key,
    verified,
)

NOW = 1_800_000_000.0
DAY = 86400.0
QUARTER = 90 * DAY
PRIVATE = {algorithm: new_key(algorithm, f"{algorithm} 1") for algorithm in ALGORITHMS}
CLAIMS = {"iss": "https://login.example.com", "sub": "user", "aud": "shop"}


def key(number: int, start: float, end: float, algorithm: str = "ES256") -> Key:
    return Key(PRIVATE[algorithm], algorithm, Turn(number, start, end))


KEYS = [key(1, NOW, NOW + QUARTER, algorithm) for algorithm in ALGORITHMS]


# Turns.


def test_the_first_key_signs_at_once():
    assert next_turn([], QUARTER, NOW) == Turn(1, NOW, NOW + QUARTER)


@pytest.mark.parametrize("lifetime", [DAY, 3 * DAY, QUARTER, 1000 * DAY])
def test_the_next_key_is_made_ahead_and_takes_over_without_a_gap(lifetime):
    first = Turn(1, NOW, NOW + lifetime)
    ahead = min(AHEAD_SECONDS, lifetime / 2)
    assert next_turn([first], lifetime, first.signs_until - ahead - 1) is None
    second = next_turn([first], lifetime, first.signs_until - ahead)
    assert second == Turn(2, first.signs_until, first.signs_until + lifetime)
    assert next_turn([first, second], lifetime, first.signs_until + 1) is None


def test_a_key_is_published_a_week_after_its_turn():
    keys = [key(1, NOW, NOW + DAY), key(2, NOW + DAY, NOW + 2 * DAY)]
    assert len(public_set(keys, NOW)["keys"]) == 2, "before its turn too"
    assert len(public_set(keys, NOW + DAY + AFTER_SECONDS - 1)["keys"]) == 2
    assert len(public_set(keys, NOW + DAY + AFTER_SECONDS)["keys"]) == 1
    assert public_set(keys, NOW + 2 * DAY + AFTER_SECONDS) == {"keys": []}


def test_each_signs_in_its_turn():
    keys = [key(2, NOW + DAY, NOW + 2 * DAY), key(1, NOW, NOW + DAY)]
    assert signing_key(keys, "ES256", NOW - 1) is None
    assert signing_key(keys, "ES256", NOW + DAY - 1).turn.number == 1
    assert signing_key(keys, "ES256", NOW + DAY).turn.number == 2
    assert signing_key(keys, "ES256", NOW + 5 * DAY).turn.number == 2, "until there is another"
    assert signing_key(keys, "RS256", NOW) is None


def test_after_a_pause_the_last_key_goes_on_until_everybody_knows_the_next():
    """Nobody logs in for days, over a holiday, say: no key was made meanwhile."""
    last = Turn(1, NOW, NOW + QUARTER)
    back = last.signs_until + 3 * DAY
    fresh = next_turn([last], QUARTER, back)
    assert fresh == Turn(2, back + KNOWN_SECONDS, back + KNOWN_SECONDS + QUARTER)
    keys = [Key(PRIVATE["ES256"], "ES256", turn) for turn in (last, fresh)]
    assert signing_key(keys, "ES256", back).turn == last
    assert signing_key(keys, "ES256", back + KNOWN_SECONDS).turn == fresh


def test_after_a_longer_pause_the_last_key_signs_nothing_that_outlives_it():
    last = Turn(1, NOW, NOW + QUARTER)
    back = last.expires_at - TOKEN_SECONDS - 60
    assert next_turn([last], QUARTER, back).signs_from == back + 60
    assert next_turn([last], QUARTER, back + 3600).signs_from == back + 3600


def test_after_the_longest_pause_there_is_a_new_beginning():
    assert next_turn([], QUARTER, NOW + 400 * DAY).signs_from == NOW + 400 * DAY


def test_another_lifetime_holds_from_the_next_key_on():
    known = [Turn(1, NOW, NOW + QUARTER)]
    assert next_turn(known, DAY, NOW + DAY) is None
    short = next_turn(known, DAY, NOW + QUARTER - DAY / 2)
    assert short == Turn(2, NOW + QUARTER, NOW + QUARTER + DAY)
    assert (
        next_turn([*known, short], QUARTER, short.signs_until - DAY / 2).signs_until
        == short.signs_until + QUARTER
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 20 * DAY), st.sampled_from([DAY, 2 * DAY, 30 * DAY])), max_size=40))
def test_whenever_it_is_looked_at_somebody_signs_and_what_was_signed_can_be_verified(looks):
    """Looked at after any pauses, with any lifetimes: each time as the signer does it."""
    now = NOW
    turns: list[Turn] = []
    for seconds, lifetime in looks:
        now += seconds
        turns = [turn for turn in turns if now < turn.expires_at]  # the store sweeps
        former = {turn.number for turn in turns}
        fresh = next_turn(turns, lifetime, now)
        if fresh is not None:
            assert fresh.signs_from >= now
            turns.append(fresh)
        keys = [Key(PRIVATE["ES256"], "ES256", turn) for turn in turns]
        signer = signing_key(keys, "ES256", now)
        assert signer is not None
        end = now + TOKEN_SECONDS
        assert signer.turn.expires_at >= end
        overtaken = former and max(turn.expires_at for turn in turns if turn.number in former) < end
        assert signer.turn.number in former or not former or overtaken, "nobody could know it yet"


def test_no_token_may_be_good_for_longer_than_its_key():
    assert Oidc(access_token_lifetime=TOKEN_SECONDS)
    with pytest.raises(ValidationError):
        Oidc(access_token_lifetime=TOKEN_SECONDS + 1)


# What is published.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_public_set_has_no_private_part(algorithm):
    (published,) = public_set([key(1, NOW, NOW + DAY, algorithm)], NOW)["keys"]
    assert (published["kid"], published["alg"], published["use"]) == (f"{algorithm} 1", algorithm, "sig")
    wanted = {"RS256": {"kty", "n", "e"}, "ES256": {"kty", "crv", "x", "y"}}[algorithm]
    assert published.keys() == wanted | {"kid", "alg", "use"}
    assert json.loads(json.dumps(published)) == published


def test_an_rsa_key_is_long_enough():
    modulus = str(PRIVATE["RS256"].as_dict(private=False)["n"])
    assert len(base64.urlsafe_b64decode(modulus + "==")) == 384


# What is believed.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_token_is_verified_by_the_public_set_alone_and_by_us(algorithm):
    token = sign(signing_key(KEYS, algorithm, NOW), CLAIMS)
    published = KeySet.import_key_set(public_set(KEYS, NOW))
    decoded = jwt.decode(token, published, algorithms=[algorithm])
    assert decoded.claims == CLAIMS
    assert decoded.header == {"alg": algorithm, "kid": f"{algorithm} 1", "typ": "JWT"}
    assert verified(KEYS, token) == CLAIMS


def test_a_token_is_verified_after_its_keys_turn():
    token = sign(key(1, NOW, NOW + 1), CLAIMS)
    later = Key(new_key("ES256", "ES256 2"), "ES256", Turn(2, NOW + 1, NOW + 2))
    assert verified([key(1, NOW, NOW + 1), later], token) == CLAIMS
    assert verified([later], token) is None, "once its key is gone, it is nobody's"
    assert verified([], token) is None


def test_a_token_of_one_kind_does_not_pass_for_another():
    logout, identity = sign(KEYS[0], CLAIMS, "logout+jwt"), sign(KEYS[0], CLAIMS)
    assert verified(KEYS, logout) is None
    assert verified(KEYS, identity, "logout+jwt") is None
    assert verified(KEYS, logout, "logout+jwt") == CLAIMS


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join((part(header), part(CLAIMS), part(signature)))


def by(algorithm: str, private: Any, kid: str | None) -> str:
    header = {"alg": algorithm} | ({"kid": kid} if kid else {})
    return jwt.encode(header, CLAIMS, private, algorithms=[algorithm])


def by_secret(secret: bytes, kid: str | None) -> str:
    """By hand: the library itself would not do this."""
    header = {"alg": "HS256"} | ({"kid": kid} if kid else {})
    signed = f"{part(header)}.{part(CLAIMS)}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"


def forgeries() -> dict[str, str]:
    rsa_pem = PRIVATE["RS256"].as_pem(private=False)
    rsa_json = json.dumps(PRIVATE["RS256"].as_dict(private=False)).encode()
    honest = sign(KEYS[0], CLAIMS)
    head, body, tail = honest.split(".")
    stranger, strange_curve = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    strange, latin = stranger.as_dict(private=False), part(b"\xff")
    return {
        "alg none": forged({"alg": "none", "kid": "RS256 1", "typ": "JWT"}),
        "alg None": forged({"alg": "None", "kid": "RS256 1", "typ": "JWT"}),
        "no alg": forged({"kid": "RS256 1"}),
        "alg a number": forged({"alg": 1, "kid": "RS256 1"}),
        "alg a list": forged({"alg": ["RS256"], "kid": "RS256 1"}),
        "kid a list": forged({"alg": "RS256", "kid": ["RS256 1"]}),
        "kid an object": forged({"alg": "RS256", "kid": {"$ne": ""}}),
        "HS256 with the public key as PEM": by_secret(rsa_pem, "RS256 1"),
        "HS256 with the public key as JSON": by_secret(rsa_json, "RS256 1"),
        "HS256 without kid": by_secret(rsa_pem, None),
        "another's RSA key": by("RS256", stranger, "RS256 1"),
        "another's RSA key, its own kid": by("RS256", stranger, "RS256 2"),
        "another's RSA key, no kid": by("RS256", stranger, None),
        "another's EC key": by("ES256", strange_curve, "ES256 1"),
        "an EC token under the RSA kid": by("ES256", PRIVATE["ES256"], "RS256 1"),
        "PS256 with our key": by(
            "PS256", RSAKey.import_key(PRIVATE["RS256"].as_dict(private=True) | {"alg": "PS256"}), "RS256 1"
        ),
        "a key brought along": forged({"alg": "RS256", "jwk": strange, "kid": "RS256 1"}),
        "a key's address brought along": forged({"alg": "RS256", "jku": "https://evil.example/keys"}),
        "crit": forged({"alg": "RS256", "kid": "RS256 1", "crit": ["exp"]}),
        "the signature of another body": ".".join((head, part({**CLAIMS, "sub": "other"}), tail)),
        "another header": ".".join((part({"alg": "ES256", "kid": "RS256 1", "typ": "JWT"}), body, tail)),
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "five parts": f"{honest}.{tail}.{tail}",
        "a header that is a list": f"{part([])}.{body}.{tail}",
        "a header that is a number": f"{part(1)}.{body}.{tail}",
        "a header that is null": f"{part(None)}.{body}.{tail}",
        "a header that is no UTF-8": f"{latin}.{body}.{tail}",
        "a deep header": f"{part(b'[' * 9000)}.{body}.{tail}",
        "empty": "",
        "dots": "..",
        "not ASCII": "签.名.字",
        "a surrogate": "\ud800.a.b",
        "a NUL": f"{honest}\0",
        "huge": "A" * 100_000 + "." + "A" * 100_000 + ".A",
    }


def test_what_we_did_not_sign_is_not_believed():
    for name, token in forgeries().items():
        assert verified(KEYS, token) is None, name


def test_claims_are_an_object():
    private = PRIVATE["RS256"]
    token = jws.serialize_compact({"alg": "RS256", "kid": "RS256 1", "typ": "JWT"}, b"[1]", private)
    assert verified(KEYS, token) is None


def test_no_byte_of_a_token_can_be_another():
    token, chance = sign(KEYS[0], CLAIMS), random.Random(5)
    for _ in range(300):
        place, letter = chance.randrange(len(token) - 1), chance.choice("AZaz09-_.=+ \n\0é")
        if token[place] != letter:
            assert verified(KEYS, token[:place] + letter + token[place + 1 :]) is None


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_no_token(text):
    assert verified(KEYS, text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda some: (
            st.lists(some)
            | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), some)
        ),
        max_leaves=8,
    )
)
def test_any_header_is_no_reason_to_fail(header):
    assert verified(KEYS, f"{part(header)}.{part(CLAIMS)}.AAAA") is None
