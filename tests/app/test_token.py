"""The app's tokens: which are believed, and that nothing else is."""

from __future__ import annotations

import base64
import json
import string
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

import app.token
from app.token import (
    LEEWAY,
    MAX_BYTES,
    MAX_LIFETIME,
    MAX_SUBJECT,
    Claims,
    Policy,
    TokenRefused,
    Verifier,
    algorithms_of,
    import_key,
    key_id,
    verify,
)
from tests.app.keys import (
    AUDIENCE,
    BACKENDS,
    ISSUER,
    NOW,
    PRIVATE,
    SECRET,
    Backend,
    claims_now,
    encoded,
    private_pem,
    public_pem,
)

SECOND = int(NOW)
HS256 = BACKENDS["HS256"]
URL_SAFE = string.ascii_letters + string.digits + "-_"


def setting_of(backend: Backend) -> str:
    return SECRET if backend.algorithm == "HS256" else public_pem(backend.key)


def checked(token: str, backend: Backend = HS256, now: float = NOW) -> Claims:
    key = import_key(setting_of(backend))
    return verify(token, key, Policy(ISSUER, AUDIENCE, algorithms_of(key)), now)


def is_refused(token: str, backend: Backend = HS256, now: float = NOW) -> bool:
    try:
        checked(token, backend, now)
    except TokenRefused:
        return True
    return False


def each(claim: str, *values: Any) -> list[dict[str, Any]]:
    return [{claim: value} for value in values]


# What is believed.


@pytest.mark.parametrize("name", BACKENDS)
def test_every_algorithm_with_its_key(name):
    backend = BACKENDS[name]
    assert checked(backend.token(jti="1", name="小王", picture="https://p.example.com/1"), backend) == Claims(
        "u1", checked(backend.token(jti="1"), backend).id, "小王", "https://p.example.com/1"
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE]},
        {"exp": SECOND + 1.5, "iat": SECOND - 0.5},
        {"exp": SECOND + MAX_LIFETIME},
        {"nbf": SECOND},
        {"sub": "x" * MAX_SUBJECT},
        {"sub": "用户 一"},
        {"jti": None},
        {"unknown": {"deep": [1, None]}},
        {"name": 5, "picture": ["x"]},
    ],
    ids=str,
)
def test_what_is_within_the_rules(claims):
    assert checked(HS256.token(**claims)).subject == claims.get("sub", "u1")


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": "at+jwt"}, {"kid": "1"}], ids=str)
def test_headers_that_say_nothing_new(header):
    assert checked(HS256.token(header=header))


@pytest.mark.parametrize(
    ("claims", "fine"),
    [
        ({"exp": SECOND - LEEWAY, "iat": SECOND - 100}, False),
        ({"exp": SECOND - LEEWAY + 1, "iat": SECOND - 100}, True),
        ({"iat": SECOND + LEEWAY}, True),
        ({"iat": SECOND + LEEWAY + 1}, False),
        ({"nbf": SECOND + LEEWAY}, True),
        ({"nbf": SECOND + LEEWAY + 1}, False),
        ({"exp": SECOND + MAX_LIFETIME + LEEWAY}, True),
        ({"exp": SECOND + MAX_LIFETIME + LEEWAY + 1}, False),
        ({"iat": SECOND, "exp": SECOND}, False),
        ({"iat": SECOND, "exp": SECOND + 1}, True),
    ],
    ids=str,
)
def test_edges_of_the_times(claims, fine):
    assert is_refused(HS256.token(**claims)) is not fine


def test_a_token_ends_while_the_clock_runs():
    token = HS256.token()
    assert not is_refused(token, now=NOW + 60 + LEEWAY - 1)
    assert is_refused(token, now=NOW + 60 + LEEWAY)
    assert is_refused(token, now=NOW - LEEWAY - 1)


def test_names_and_pictures_are_text_of_a_bounded_length():
    told = checked(HS256.token(name="a\u202eb\x00\n\ud800c" + "x" * 100, picture="\x07" + "y" * 2000))
    assert told.name == "abc" + "x" * 61
    assert told.picture == "y" * 1024
    assert checked(HS256.token(name="  \t ")).name == ""


# What is refused.


@pytest.mark.parametrize(
    "claims",
    [
        *each("exp", None, "x", str(SECOND + 60), True, [], {}, SECOND - 100, SECOND + 3600),
        *each("exp", 10**400, -(10**400), float("nan"), float("inf"), -float("inf")),
        *each("iat", None, "x", True, False, [], SECOND + 3600, float("nan"), float("inf")),
        {"iat": SECOND + 10, "exp": SECOND + 5},
        *each("nbf", SECOND + 3600, "x", True, [SECOND]),
        *each("iss", None, "", "other", ISSUER + "/", ISSUER.upper(), [ISSUER], 5, {}),
        *each("aud", None, "", "other", AUDIENCE.upper(), AUDIENCE + " ", [], ["other"], 5, {}, [5], [[]]),
        *each("aud", {AUDIENCE: 1}, [AUDIENCE, 5], [AUDIENCE, AUDIENCE]),
        *each("aud", [AUDIENCE, "other"], ["other", AUDIENCE]),  # the other one could show it here
        *each("sub", None, "", 5, True, ["u1"], {}, "x" * (MAX_SUBJECT + 1), "a\nb", "\x00", "a\x7fb"),
        *each("sub", "a\u202eb", "\u200b", "\ud800"),
        *each("jti", 5, True, ["x"], {}),
    ],
    ids=lambda claims: str(claims)[:60],
)
def test_claims_that_are_refused(claims):
    assert is_refused(HS256.token(**claims))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_no_signature(algorithm, signature):
    signed = HS256.token(header={"alg": algorithm}).rpartition(".")[0]
    assert is_refused(f"{signed}.{signature}")
    assert is_refused(signed)


@pytest.mark.parametrize("name", ["RS256", "ES256", "Ed25519"])
def test_a_public_key_is_no_shared_secret(name):
    """The attack that the algorithm in a token invites: HS256, signed with the public key's own text."""
    backend = BACKENDS[name]
    pem = public_pem(backend.key)
    der = backend.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for text in (pem.encode(), pem.strip().encode(), der, b"".join(pem.encode().splitlines()[1:-1])):
        assert is_refused(Backend("HS256", text).token(), backend)


@pytest.mark.parametrize("key", BACKENDS)
@pytest.mark.parametrize("told", ["HS256", "HS384", "RS256", "PS256", "RS1", "ES256", "ES256K", "EdDSA", "x"])
def test_only_the_keys_own_algorithms(key, told):
    backend = BACKENDS[key]
    fits = {"RS256": "RS256", "PS256": "PS256", "EdDSA": "EdDSA", "Ed25519": "EdDSA"}
    if told != key and told != fits.get(key):
        assert is_refused(backend.token(header={"alg": told}), backend)


def test_settings_narrow_the_algorithms():
    backend = BACKENDS["PS256"]
    key = import_key(public_pem(backend.key))
    only = Policy(ISSUER, AUDIENCE, frozenset({"RS256"}))
    assert verify(BACKENDS["RS256"].token(), key, only, NOW)
    with pytest.raises(TokenRefused):
        verify(backend.token(), key, only, NOW)


def test_another_key_of_the_same_kind():
    stranger = rsa.generate_private_key(65537, 2048)
    assert is_refused(Backend("RS256", stranger).token(), BACKENDS["RS256"])
    assert is_refused(Backend("HS256", SECRET[:-1].encode()).token())


@pytest.mark.parametrize(
    "header",
    [
        *("[]", '"x"', "1", "null", "{}", "", "{", "[" * 300, '{"alg":[]}', '{"alg":{}}', '{"alg":null}'),
        *('{"alg":"HS256","kid":1}', '{"alg":"HS256","kid":[]}', '{"alg":"HS256","typ":1}'),
        *('{"alg":"HS256","zip":"DEF"}', '{"alg":"HS256","unknown":1}', '{"alg":"HS256","enc":"A128GCM"}'),
        *('{"alg":"HS256","crit":[]}', '{"alg":"HS256","crit":"exp"}'),
        *('{"alg":"HS256","crit":["exp"],"exp":1}', '{"alg":"HS256","crit":["b64"],"b64":true}'),
        *('{"alg":"HS256","b64":true}', '{"alg":"HS256","b64":false}', '{"alg":"none","alg":"HS256"}'),
        *('{"alg":"HS256","alg":"HS256"}', '{"alg":"HS256","\\u0061lg":"HS256"}'),
        '{"alg":"HS256","kid":"' + "x" * 600 + '"}',
    ],
    ids=lambda header: header[:50],
)  # fmt: skip
def test_headers_that_are_refused(header):
    assert is_refused(HS256.signed(header, _payload(HS256.token())))


@pytest.mark.parametrize("encode", [True, False])
def test_a_payload_that_is_not_base64(encode):
    header = encoded('{"alg":"HS256","crit":["b64"],"b64":false}')
    payload = _payload(HS256.token())
    signing = f"{header}.{encoded(payload) if encode else payload}"
    token = f"{signing}.{encoded(HS256.signature(signing.encode()))}"
    assert is_refused(token)
    assert is_refused(f"{header}..{token.rpartition('.')[2]}")


@pytest.mark.parametrize(
    "payload",
    [
        *("", "[]", '"x"', "1", "null", "{}", "{", "NaN", "[" * 2000, '{"a":' * 1000, "\x00", "\ud800"),
        *("%s,", "%s%s", "[%s]", '{"claims": %s}'),
    ],
    ids=lambda payload: ascii(payload)[:20],
)
def test_payloads_that_are_refused(payload):
    assert is_refused(HS256.signed('{"alg":"HS256"}', payload.replace("%s", _payload(HS256.token()))))


@pytest.mark.parametrize("twice", ['"sub":"u2"', f'"exp":{SECOND + 60}', '"x":{"y":1,"y":2}'])
def test_members_that_are_named_twice(twice):
    payload = _payload(HS256.token())
    assert is_refused(HS256.signed('{"alg":"HS256"}', payload[:-1] + f",{twice}}}"))


def test_junk():
    token = HS256.token()
    header, payload, signature = token.split(".")
    for junk in (
        *("", " ", ".", "..", "...", "a", "a.b", "a.b.c", "é.é.é", "\ud800.x.y", "\x00", "龍" * 3000),
        *(f"{token}.", f".{token}", f"{token}=", f" {token}", f"{token} ", f"{token}\n", token.upper()),
        *(f"{header}.{payload}", f"{header}.{payload}.", f"{header}..{signature}", f".{payload}.{signature}"),
        *(f"{payload}.{header}.{signature}", f"{header}\n.{payload}.{signature}", f"{token}.{signature}"),
        *(f"{header}.{payload}.{signature}=", f"{header}.{payload}.{signature[:-4]}", f"Bearer {token}"),
        json.dumps({"protected": header, "payload": payload, "signature": signature}),
    ):
        assert is_refused(junk), junk


def test_tokens_have_a_limit():
    assert not is_refused(HS256.token(padding="x" * (MAX_BYTES * 3 // 4 - 400)))
    assert is_refused(HS256.token(padding="x" * MAX_BYTES))


@given(data=st.data(), name=st.sampled_from(["HS256", "RS256", "ES256", "Ed25519"]))
def test_any_other_character_anywhere(data, name):
    """There is one spelling of a token: no other is another token for the same login."""
    token = TOKENS[name]
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(URL_SAFE + ".=+/ \n") | st.characters())
    what = data.draw(st.sampled_from(["replaced", "inserted", "removed"]))
    rest = token[place:] if what == "inserted" else token[place + 1 :]
    changed = token[:place] + ("" if what == "removed" else other) + rest
    if changed != token:
        assert is_refused(changed, BACKENDS[name])
        key_id(changed)  # whatever it says, it raises nothing


@given(st.text() | st.text(URL_SAFE + ".", max_size=60))
def test_any_text(text):
    assert is_refused(text)
    key_id(text)


# What a token is known by: it confirms once.


def test_a_token_is_known_by_its_jti():
    one, again = HS256.token(jti="1"), HS256.token(jti="1", exp=SECOND + 61)
    assert checked(one).id == checked(again).id
    assert checked(one).id != checked(HS256.token(jti="2")).id


def test_without_jti_by_all_it_says():
    one = checked(HS256.token()).id
    assert checked(HS256.token()).id == one
    for other in ({"exp": SECOND + 61}, {"jti": "1"}, {"jti": ""}):
        assert checked(HS256.token(**other)).id != one


def test_another_signature_makes_no_other_token():
    """Of an ES256 signature anybody can make a second one that is valid, too."""
    backend = BACKENDS["ES256"]
    token = backend.token()
    signing, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert checked(f"{signing}.{encoded(twin)}", backend) == checked(token, backend)


# What is remembered of a token that was good.


class Remembering:
    """A verifier, and how often it really looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key = import_key(SECRET)
        self.looks = 0
        self._verifier = Verifier(Policy(ISSUER, AUDIENCE, algorithms_of(self.key)))
        monkeypatch.setattr(app.token, "verify", self._looked)

    def _looked(self, *arguments: Any) -> Claims:
        self.looks += 1
        return verify(*arguments)

    def verify(self, token: str, now: float = NOW) -> Claims:
        return self._verifier.verify(token, self.key, now)


def test_a_token_is_looked_at_once(monkeypatch):
    verifier, one, two = Remembering(monkeypatch), HS256.token(), HS256.token(jti="2")
    assert verifier.verify(one) == verifier.verify(one, NOW + 59) == checked(one)
    assert verifier.looks == 1
    assert verifier.verify(two) == checked(two)
    assert verifier.looks == 2


def test_what_is_remembered_ends_with_the_token(monkeypatch):
    verifier, token = Remembering(monkeypatch), HS256.token(exp=SECOND + 60)
    verifier.verify(token)
    verifier.verify(token, NOW + 60)  # within the leeway, which is a matter of the real look
    assert verifier.looks == 2
    with pytest.raises(TokenRefused):
        verifier.verify(token, NOW + 60 + LEEWAY)
    with pytest.raises(TokenRefused):
        verifier.verify(token, NOW - LEEWAY - 1)  # before what is remembered: a clock was set back


def test_what_is_remembered_is_of_the_same_keys(monkeypatch):
    verifier, token = Remembering(monkeypatch), HS256.token()
    verifier.verify(token)
    verifier.key = import_key("another secret that has all of its 32 bytes")
    with pytest.raises(TokenRefused):
        verifier.verify(token)


def test_what_is_refused_is_not_remembered(monkeypatch):
    verifier, token = Remembering(monkeypatch), HS256.token()
    for _ in range(2):
        with pytest.raises(TokenRefused):
            verifier.verify(f"{token[:-4]}AAAA")
    assert verifier.looks == 2
    verifier.verify(token)
    with pytest.raises(TokenRefused):
        verifier.verify(f"{token[:-4]}AAAA")


def test_few_tokens_are_remembered(monkeypatch):
    monkeypatch.setattr(app.token, "MAX_REMEMBERED", 2)
    verifier, tokens = Remembering(monkeypatch), [HS256.token(jti=f"{number}") for number in range(3)]
    for token in [*tokens, tokens[2], tokens[1]]:
        verifier.verify(token)
    assert verifier.looks == 3
    verifier.verify(tokens[0])
    assert verifier.looks == 4


def test_key_id_is_what_the_header_names():
    assert key_id(HS256.token(header={"kid": "2026-11"})) == "2026-11"
    assert key_id(HS256.token()) is None


@pytest.mark.parametrize("header", ['"alg"', "[]", "1", "null", "{", '{"kid": ["1"]}', '{"kid": {}}'])
def test_a_header_that_is_no_object_names_none(header):
    token = HS256.signed(header, json.dumps(claims_now()))
    assert key_id(token) is None
    assert is_refused(token)


# Keys in the settings.


def test_keys_that_fit():
    assert algorithms_of(import_key(SECRET)) == {"HS256"}
    assert algorithms_of(import_key("ü" * 16)) == {"HS256"}  # 32 bytes
    for name, algorithms in {
        "RSA": {"RS256", "PS256"},
        "P-256": {"ES256"},
        "Ed25519": {"EdDSA", "Ed25519"},
    }.items():
        pem = public_pem(PRIVATE[name])
        for text in (pem, f"\n  {pem}\n", f"# the app's key\n{pem}", pem.replace("\n", "\r\n")):
            assert algorithms_of(import_key(text)) == algorithms, name


@pytest.mark.parametrize("name", ["P-384", "secp256k1", "Ed448", "X25519"])
def test_keys_that_no_algorithm_of_ours_goes_with(name):
    with pytest.raises(ValueError, match="P-256 or Ed25519"):
        import_key(public_pem(PRIVATE[name]))


def test_short_keys():
    with pytest.raises(ValueError, match="2048 bits"):
        import_key(public_pem(rsa.generate_private_key(65537, 1024)))
    for short in ("", "x" * 31, "ü" * 15, " " * 40, "x".ljust(40)):
        with pytest.raises(ValueError, match="32 bytes"):
            import_key(short)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_keys_stay_with_the_backend(name):
    pem = private_pem(PRIVATE[name])
    for text in (pem, f"\n{pem}", f"Bag Attributes\n{pem}", public_pem(PRIVATE[name]) + pem):
        with pytest.raises(ValueError, match="public key") as refused:
            import_key(text)
        assert pem.splitlines()[1] not in str(refused.value)


@pytest.mark.parametrize("name", ["RSA", "P-256", "Ed25519"])
def test_a_public_key_in_another_dress_is_no_secret(name):
    """Whoever knows it could sign with it."""
    public = PRIVATE[name].public_key()
    pem = public_pem(PRIVATE[name])
    bare = "".join(pem.splitlines()[1:-1])
    ssh = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    for text in (bare, "\n".join(pem.splitlines()[1:-1]), ssh, json.dumps({"kty": "EC", "x": "x" * 40})):
        with pytest.raises(ValueError, match="PEM"):
            import_key(text)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----" + "x" * 40,
        "-----BEGIN",
    ],
)
def test_pem_that_is_none(text):
    with pytest.raises(ValueError, match="PEM public key"):
        import_key(text)


def test_base64_and_hex_secrets_are_secrets():
    for text in (base64.b64encode(b"\x8f" * 32).decode(), "8f" * 32, "x" * 32):
        assert algorithms_of(import_key(text)) == {"HS256"}


def test_hostile_tokens_are_refused_quickly():
    began = time.perf_counter()
    for hostile in (
        "." * MAX_BYTES,
        "a" * MAX_BYTES,
        HS256.signed('{"alg":"HS256"}', '{"exp":' + "9" * 5000 + "}"),
        HS256.signed('{"alg":"HS256"}', '{"exp":1e' + "9" * 100 + "}"),
    ):
        assert is_refused(hostile)
    assert time.perf_counter() - began < 0.5


TOKENS = {name: BACKENDS[name].token(header={"kid": "k"}) for name in ("HS256", "RS256", "ES256", "Ed25519")}


def _payload(token: str) -> str:
    return base64.urlsafe_b64decode(token.split(".")[1] + "==").decode()
