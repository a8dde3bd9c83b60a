"""Codes and tokens of a grant: who may use what, how often, and what a second use ends."""

from __future__ import annotations

import string
from dataclasses import astuple, dataclass, replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oidc.errors import OAuthError
from oidc.grant import (
    CODE_SECONDS,
    Access,
    Grant,
    GrantRefused,
    Pair,
    access_by,
    challenge_of,
    hash_of,
    is_of_family,
    is_refresh_token,
    join,
    redeem,
    refresh,
    split,
    split_refresh,
    without_access,
)

NOW = 1_800_000_000.0
LIFE = 600.0  # of an access token
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
URI = "https://shop.example.com/callback"
SCOPE = "openid profile"
TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too


def a_grant(**changes) -> Grant:
    fresh = Grant(
        id="grant",
        site="shop",
        user_id="user",
        session_id="session",
        redirect_uri=URI,
        scope=SCOPE,
        nonce="",
        code_challenge=challenge_of(VERIFIER),
        auth_time=NOW,
        created_at=NOW,
        expires_at=NOW + CODE_SECONDS,
        code_hash=hash_of("code"),
        code_expires_at=NOW + CODE_SECONDS,
    )
    return replace(fresh, **changes)


def pair(number: int = 1, family: str = "family", at: float = NOW) -> Pair:
    return Pair(f"access {number}", family, f"refresh {number}", at + LIFE)


def redeemed(grant: Grant | None = None, **changes) -> Grant:
    given = {"secret": "code", "site": "shop", "redirect_uri": URI, "verifier": VERIFIER}
    return redeem(grant or a_grant(), **{**given, "pair": pair(), "now": NOW, **changes})


def refreshed(grant: Grant, number: int = 2, **changes) -> Grant:
    given = {"secret": f"refresh {number - 1}", "site": "shop", "pair": pair(number)}
    return refresh(grant, **{**given, **changes})


def test_the_challenge_is_that_of_the_standard():
    assert challenge_of(VERIFIER) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636, appendix B


# Rule 24: a code is bound to site, address and verifier, and good once.


WRONG = {
    "secret": ["", "Code", "code ", "code\0", "cod", "\ud800", "access 1", "grant.code"],
    "site": ["", "forum", "Shop", "shop ", "shop\0"],
    "redirect_uri": ["", URI + "/", URI.upper(), URI + "?", "http" + URI[5:], URI + "\ud800"],
    "verifier": [
        "",
        VERIFIER[:-1],
        VERIFIER + "x",
        VERIFIER.swapcase(),
        VERIFIER + "\n",
        VERIFIER[:-1] + "é",
        challenge_of(VERIFIER),  # as with the method "plain"
        "\ud800" * 43,
        "a" * 42,
        "a" * 129,
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_a_code_with_one_thing_wrong_is_refused_and_stays_good(name, value):
    grant = a_grant()
    with pytest.raises(GrantRefused):
        redeemed(grant, **{name: value})
    assert grant == a_grant()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_who_cannot_show_what_belongs_to_a_used_code_ends_nothing(name, value):
    with pytest.raises(GrantRefused):
        redeemed(redeemed(), **{name: value})


@given(TEXT, TEXT, TEXT, TEXT)
def test_a_code_is_good_for_nobody_else(secret, site, redirect_uri, verifier):
    with pytest.raises(GrantRefused):
        redeemed(secret=secret, site=site, redirect_uri=redirect_uri, verifier=verifier)


@given(st.text(string.ascii_letters + string.digits + "-._~", min_size=43, max_size=128))
def test_every_verifier_of_the_standard_will_do(verifier):
    assert redeemed(a_grant(code_challenge=challenge_of(verifier)), verifier=verifier).redeemed


@pytest.mark.parametrize(("after", "good"), [(0.0, True), (59.999, True), (60.0, False), (1e9, False)])
def test_a_code_is_good_for_60_seconds(after, good):
    if good:
        assert redeemed(now=NOW + after).redeemed
    else:
        with pytest.raises(GrantRefused):
            redeemed(now=NOW + after)


@pytest.mark.parametrize("after", [0.0, 61.0, 1e6])
def test_a_code_used_again_ends_what_it_gave_however_late(after):
    again = redeemed(redeemed(), pair=pair(9), now=NOW + after)
    assert again.revoked
    assert access_by(again, "access 1") is None
    assert access_by(again, "access 9") is None
    assert not is_refresh_token(again, "family", "refresh 1")


def test_nothing_is_kept_in_clear():
    kept = repr(astuple(refreshed(redeemed())))
    for secret in ("code", "access 1", "access 2", "family", "refresh 1", "refresh 2", VERIFIER):
        assert f"{secret}'" not in kept


# Rule 25: refresh rotates, and an old refresh token kills the family.


def test_a_refresh_gives_a_new_pair_and_the_last_access_token_lives_on():
    grant = refreshed(redeemed(), pair=pair(2, at=NOW + 60))
    assert is_refresh_token(grant, "family", "refresh 2")
    assert not is_refresh_token(grant, "family", "refresh 1")
    assert access_by(grant, "access 1") == Access(SCOPE, NOW + LIFE)
    assert access_by(grant, "access 2") == Access(SCOPE, NOW + 60 + LIFE)


@pytest.mark.parametrize("secret", ["refresh 1", "", "\ud800", "anything"])
def test_another_secret_with_the_family_ends_the_grant(secret):
    grant = refreshed(refreshed(redeemed()), 3, secret=secret)
    assert grant.revoked
    for number in (1, 2, 3):
        assert access_by(grant, f"access {number}") is None


@given(TEXT.filter(lambda family: family != "family"), TEXT)
def test_nobody_without_the_family_changes_anything(family, secret):
    with pytest.raises(GrantRefused):
        refreshed(redeemed(), secret=secret, pair=pair(2, family))
    assert not is_of_family(redeemed(), family)


@pytest.mark.parametrize("grant", [a_grant(), replace(redeemed(), revoked=True)], ids=["unused", "revoked"])
def test_a_grant_that_gave_nothing_or_is_over_gives_nothing(grant):
    for family, secret in (("family", "refresh 1"), ("", ""), ("family", "")):
        with pytest.raises(GrantRefused):
            refreshed(grant, secret=secret, pair=pair(2, family))
        assert not is_of_family(grant, family)
    assert access_by(grant, "access 1") is None
    assert access_by(grant, "") is None


def test_a_refresh_token_is_good_for_its_site_alone():
    with pytest.raises(GrantRefused):
        refreshed(redeemed(), site="forum")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("", SCOPE),
        ("openid", "openid"),
        ("profile openid", SCOPE),
        ("profile  profile", "profile"),
        ("\topenid\n", "openid"),
    ],
)
def test_a_refresh_may_ask_for_less_in_the_access_token(asked, told):
    grant = refreshed(redeemed(), scope=asked)
    assert access_by(grant, "access 2") == Access(told, NOW + LIFE)
    assert access_by(grant, "access 1") == Access(SCOPE, NOW + LIFE)
    wide = refreshed(grant, 3)
    assert access_by(wide, "access 3").scope == SCOPE
    assert access_by(wide, "access 2").scope == told


@pytest.mark.parametrize(
    "asked", ["openid offline_access", "OPENID", "openid,profile", "urn:saoma:identities"]
)
def test_a_refresh_that_asks_for_more_gets_nothing_and_costs_nothing(asked):
    grant = redeemed()
    with pytest.raises(OAuthError) as refusal:
        refreshed(grant, scope=asked)
    assert refusal.value.code == "invalid_scope"


@pytest.mark.parametrize("asked", ["openid", "more"])
def test_what_scope_a_grant_has_is_told_to_nobody_without_its_token(asked):
    with pytest.raises(GrantRefused):
        refreshed(redeemed(), pair=pair(2, "guessed"), scope=asked)
    assert refreshed(redeemed(), secret="old", scope=asked).revoked


def test_an_access_token_given_back_is_over_and_the_others_are_not():
    grant = refreshed(redeemed())
    assert access_by(without_access(grant, "access 2"), "access 2") is None
    assert access_by(without_access(grant, "access 2"), "access 1") is not None
    assert access_by(without_access(grant, "access 1"), "access 1") is None
    assert access_by(without_access(grant, "access 1"), "access 2") is not None
    assert access_by(refreshed(without_access(grant, "access 2"), 3), "access 2") is None
    assert without_access(grant, "unknown") is grant
    assert is_refresh_token(without_access(grant, "access 2"), "family", "refresh 2")


# How they look from outside.


@given(st.text("abc-_", min_size=1), st.text("abc-_", min_size=1), st.text("abc-_", min_size=1))
def test_a_token_comes_apart_as_it_was_put_together(grant_id, family, secret):
    assert split(join(grant_id, secret)) == (grant_id, secret)
    assert split_refresh(join(grant_id, join(family, secret))) == (grant_id, family, secret)


@given(TEXT)
def test_any_text_comes_apart(token):
    grant_id, secret = split(token)
    assert bool(grant_id) == bool(secret)
    assert (not grant_id) or join(grant_id, secret) == token
    parts = split_refresh(token)
    assert all(parts) or not any(parts)


@pytest.mark.parametrize("token", ["", ".", "a", "a.", ".b", "..", ".b.c", "a..c"])
def test_what_is_no_token_of_ours_names_no_grant(token):
    assert split_refresh(token) == ("", "", "")


def test_no_kind_of_token_passes_for_another():
    grant = refreshed(redeemed())
    for secret in ("code", "family", "refresh 2", "family.refresh 2", "refresh 1"):
        assert access_by(grant, secret) is None
    for secret in ("code", "access 2", "family"):
        assert not is_refresh_token(grant, "family", secret)
    for secret in ("access 1", "family.refresh 2", "refresh 2"):
        with pytest.raises(GrantRefused):
            redeemed(grant, secret=secret)


# Any order of everything, against what was said of it.


@dataclass
class Model:
    """What a grant is, in the words of the promises."""

    used: bool = False
    over: bool = False
    round: int = 0  # of the current refresh token
    ends: dict[int, float] | None = None  # of the access tokens that live, by round

    def __post_init__(self) -> None:
        self.ends = {}


class AnyOrder(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.grant, self.model, self.now = a_grant(), Model(), NOW

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 300.0, 600.0, 3000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(wrong=st.sampled_from(["", *WRONG]))
    def use_the_code(self, wrong: str) -> None:
        model, number = self.model, self.model.round + 1
        more = {wrong: WRONG[wrong][1]} if wrong else {}
        fresh = not model.used and self.now < NOW + CODE_SECONDS
        try:
            self.grant = redeemed(self.grant, pair=pair(number, at=self.now), now=self.now, **more)
        except GrantRefused:
            assert wrong or model.over or not (fresh or model.used)
            return
        assert not wrong
        assert not model.over
        if model.used:
            model.over = True
            return
        assert fresh
        model.used = True
        self.gave(number)

    @rule(age=st.integers(0, 4), family=st.sampled_from(["family", "family", "guessed", ""]))
    def refresh(self, age: int, family: str) -> None:
        model, number = self.model, self.model.round + 1
        try:
            self.grant = refreshed(
                self.grant,
                secret=f"refresh {model.round - age}",
                pair=pair(number, family, self.now),
            )
        except GrantRefused:
            assert family != "family" or not model.used or model.over
            return
        assert family == "family"
        assert model.used
        assert not model.over
        if age:
            model.over = True
        else:
            self.gave(number)

    @rule(age=st.integers(0, 3))
    def give_an_access_token_back(self, age: int) -> None:
        number = self.model.round - age
        self.grant = without_access(self.grant, f"access {number}")
        self.model.ends.pop(number, None)

    def gave(self, number: int) -> None:
        model = self.model
        model.round = number
        # Its own, and the one before the last refresh.
        kept = {known: end for known, end in model.ends.items() if known == number - 1}
        model.ends = {**kept, number: self.now + LIFE}

    @invariant()
    def says_what_was_promised(self) -> None:
        grant, model = self.grant, self.model
        assert grant.revoked == model.over
        for number in range(model.round + 2):
            access = access_by(grant, f"access {number}")
            good = access.expires_at if access is not None else None
            assert good == (None if model.over else model.ends.get(number))
            current = model.used and not model.over and number == model.round
            assert is_refresh_token(grant, "family", f"refresh {number}") == current


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
