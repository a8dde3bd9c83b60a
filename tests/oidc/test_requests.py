"""Authorization requests: what is understood, what is refused, and where a refusal may be told."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import hypothesis.strategies as st
import pytest
from hypothesis import given

from oidc.errors import Unredirectable
from oidc.grant import challenge_of
from oidc.requests import (
    MAX_NONCE,
    MAX_QUERY,
    MAX_STATE,
    SCOPES,
    AuthorizationRequest,
    Refused,
    answer,
    parse,
    parse_query,
)

URI = "https://shop.example.com/callback"
WITH_QUERY = "https://shop.example.com/other?a=b"
APP_URI = "com.example.app:/callback"
CHALLENGE = challenge_of("v" * 43)


@dataclass
class Site:
    id: str
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...] = SCOPES


SITES = (
    Site("shop", (URI, WITH_QUERY, APP_URI)),
    Site("forum", ("https://forum.example.com/callback",)),
    Site("bare", ()),
)
GOOD = {
    "response_type": "code",
    "client_id": "shop",
    "redirect_uri": URI,
    "scope": "openid profile",
    "state": "st4te",
    "nonce": "n0nce",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


def query(**changes: str | None) -> str:
    """A good request's, but for the changes; what is None is left out."""
    return urlencode({name: value for name, value in {**GOOD, **changes}.items() if value is not None})


def parsed(query: str) -> AuthorizationRequest:
    return parse(parse_query(query), SITES)


def refusal(query: str) -> Refused:
    with pytest.raises(Refused) as refused:
        parsed(query)
    assert refused.value.redirect_uri == URI
    return refused.value


def code_of(query: str) -> str:
    return refusal(query).error.code


def test_a_good_request():
    request = parsed(query())
    assert (request.site, request.redirect_uri, request.state) == ("shop", URI, "st4te")
    assert (request.scope, request.nonce, request.code_challenge) == ("openid profile", "n0nce", CHALLENGE)
    assert (request.prompt, request.max_age, request.relogin) == (frozenset(), None, False)


# Rule 24: exact `redirect_uri`, no redirect on mismatch.


MUTATIONS = [
    # scheme
    "http://shop.example.com/callback",
    "HTTPS://shop.example.com/callback",
    "//shop.example.com/callback",
    "ftp://shop.example.com/callback",
    "javascript:alert(1)//https://shop.example.com/callback",
    "data:text/html,https://shop.example.com/callback",
    "https:shop.example.com/callback",
    "https:/shop.example.com/callback",
    "https:///shop.example.com/callback",
    "https:\\\\shop.example.com/callback",
    "view-source:https://shop.example.com/callback",
    # host
    "https://evil.example/callback",
    "https://shop.example.com.evil.example/callback",
    "https://evil.shop.example.com/callback",
    "https://evilshop.example.com/callback",
    "https://shop.example.com./callback",
    "https://SHOP.example.com/callback",
    "https://shop.example.co/callback",
    "https://shop.example.comm/callback",
    "https://shop-example.com/callback",
    "https://127.0.0.1/callback",
    "https://forum.example.com/callback",
    # unicode look-alikes
    "https://shop.examp\u217ce.com/callback",
    "https://sh\u043ep.example.com/callback",
    "https://shop\u3002example.com/callback",
    "https://shop.example.com\uff0fcallback",
    "https://shop.example.com/\uff43allback",
    "https://shop.example.com/callback\u200b",
    "https://xn--shp-bxc.example.com/callback",
    # port
    "https://shop.example.com:443/callback",
    "https://shop.example.com:8443/callback",
    "https://shop.example.com:/callback",
    "https://shop.example.com:80/callback",
    # user part
    "https://user@shop.example.com/callback",
    "https://user:word@shop.example.com/callback",
    "https://@shop.example.com/callback",
    "https://shop.example.com@evil.example/callback",
    "https://shop.example.com%40evil.example/callback",
    "https://evil.example\\@shop.example.com/callback",
    "https://evil.example#@shop.example.com/callback",
    # path
    "https://shop.example.com",
    "https://shop.example.com/",
    "https://shop.example.com/callback/",
    "https://shop.example.com/callback/deeper",
    "https://shop.example.com//callback",
    "https://shop.example.com/Callback",
    "https://shop.example.com/callbackx",
    "https://shop.example.com/callbac",
    "https://shop.example.com/x/../callback",
    "https://shop.example.com/./callback",
    "https://shop.example.com/callback/.",
    "https://shop.example.com/callback/..",
    "https://shop.example.com/callback/../open?to=evil",
    "https://shop.example.com\\callback",
    "https://shop.example.com/callback;x=1",
    "/callback",
    "callback",
    # percent-encoding
    "https://shop.example.com/%63allback",
    "https://shop.example.com/callbac%6b",
    "https://shop.example.com/callback%2f",
    "https://shop.example.com/callback%00",
    "https://shop.example.com/callback%20",
    "https://shop.example.com/callback%0d%0aSet-Cookie:a=b",
    "https%3A%2F%2Fshop.example.com%2Fcallback",
    "https://shop%2eexample.com/callback",
    # query and fragment
    "https://shop.example.com/callback?",
    "https://shop.example.com/callback?x=1",
    "https://shop.example.com/callback?code=stolen",
    "https://shop.example.com/callback#",
    "https://shop.example.com/callback#fragment",
    "https://shop.example.com/other",
    "https://shop.example.com/other?",
    "https://shop.example.com/other?a=",
    "https://shop.example.com/other?a=b&c=d",
    "https://shop.example.com/other?c=d&a=b",
    "https://shop.example.com/other?a=b&a=b",
    "https://shop.example.com/other?A=b",
    # blanks and controls, before and behind and within
    " https://shop.example.com/callback",
    "https://shop.example.com/callback ",
    "\thttps://shop.example.com/callback",
    "https://shop.example.com/callback\n",
    "https://shop.example.com/callback\r\nLocation: https://evil.example",
    "https://shop.example.com/call\0back",
    "https://shop.example.com/callback\0",
    "https://shop.example.com/call back",
    "https://shop.example.com/callback\u2028",
    # two of them
    "https://shop.example.com/callback https://shop.example.com/callback",
    "https://shop.example.com/callback,https://evil.example",
    # an app's own scheme
    "com.example.app:/callback/",
    "com.example.app://callback",
    "com.example.app:/Callback",
    "com.example.apps:/callback",
    # nothing, and a lot
    "",
    "*",
    "null",
    "None",
    "https://*.example.com/callback",
    "https://shop.example.com/callback" + "x" * 1000,
]


@pytest.mark.parametrize("uri", MUTATIONS)
def test_another_redirect_uri_is_redirected_to_by_nothing(uri):
    with pytest.raises(Unredirectable):
        parsed(query(redirect_uri=uri))


@pytest.mark.parametrize("uri", [URI, WITH_QUERY, APP_URI])
def test_the_registered_ones_will_do(uri):
    assert parsed(query(redirect_uri=uri)).redirect_uri == uri


@given(st.text(min_size=1, max_size=60), st.integers(0, len(URI)), st.integers(0, 3))
def test_no_change_to_an_address_is_the_address(more, place, gone):
    changed = URI[:place] + more + URI[place + gone :]
    if changed != URI:
        with pytest.raises(Unredirectable):
            parsed(query(redirect_uri=changed))


@given(st.lists(st.integers(0, len(URI) - 1), min_size=1, unique=True), st.sampled_from(["upper", "percent"]))
def test_no_other_spelling_of_an_address_is_the_address(places, how):
    letters = list(URI)
    for place in places:
        letters[place] = letters[place].upper() if how == "upper" else f"%{ord(letters[place]):02x}"
    if "".join(letters) != URI:
        with pytest.raises(Unredirectable):
            parsed(query(redirect_uri="".join(letters)))


@pytest.mark.parametrize("encoded", [quote(URI, safe=""), URI, "".join(f"%{ord(x):02x}" for x in URI)])
def test_how_the_query_spells_it_does_not_matter(encoded):
    assert parsed(f"{query(redirect_uri=None)}&redirect_uri={encoded}").redirect_uri == URI


@pytest.mark.parametrize(
    "client_id",
    [
        "",
        "Shop",
        "SHOP",
        "shop ",
        " shop",
        "shop\0",
        "shop/",
        "shop%00",
        "forum",
        "bare",
        "*",
        "x" * 999,
        "ѕhop",
    ],
)
def test_another_client_id_is_redirected_to_by_nothing(client_id):
    with pytest.raises(Unredirectable):
        parsed(query(client_id=client_id))


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_without_a_site_or_an_address_or_with_two_nothing_is_redirected(name):
    for changed in (
        query(**{name: None}),
        query(**{name: ""}),
        f"{query()}&{name}={quote(GOOD[name])}",
        f"{query()}&{name}=",
        f"{query()}&{name}=evil",
        f"{name}=&{query()}",
        query(**{name: None}) + f"&{name.upper()}={quote(GOOD[name])}",
        query(**{name: None}) + f"&{name}[]={quote(GOOD[name])}",
        query(**{name: None}) + f"&%20{name}={quote(GOOD[name])}",
        query(**{name: None}) + f"&{name}%00={quote(GOOD[name])}",
        query(**{name: None}) + f";{name}={quote(GOOD[name])}",
    ):
        with pytest.raises(Unredirectable):
            parsed(changed)


# A query that cannot be read.


@pytest.mark.parametrize(
    "odd",
    [
        query() + "&x=%ff",
        query() + "&%ff=x",
        query() + "&x=%ed%a0%80",  # a surrogate
        query() + "&x=%c0%af",  # more bytes than it takes
        query() + "&x=状态",
        query() + "&x=\xe7\x8a\xb6",  # bytes, as the wire had them
        query() + "&x=a\\b",
        query() + "&x=a b",
        query() + "&x=a\r\nSet-Cookie:a=b",
        query() + "&x=\0",
        query() + "\n",
        query() + "&a=1" * 50,
        query() + "&x=" + "x" * MAX_QUERY,
        "&" * (MAX_QUERY + 1),
    ],
    ids=range(14),
)
def test_what_is_no_query_or_too_long_is_redirected_by_nothing(odd):
    with pytest.raises(Unredirectable):
        parsed(odd)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_read_or_refused(text):
    try:
        values = parse_query(text)
    except Unredirectable:
        return
    with pytest.raises(Unredirectable):
        parse(values, SITES)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "prompt", "max_age", "response_mode", "request", "id_token_hint", "x"]),
        st.lists(
            st.text(max_size=20) | st.sampled_from([*GOOD.values(), "none login", "0", "\0", "9" * 400]),
            min_size=1,
            max_size=2,
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_any_parameters_end_in_a_request_or_a_refusal(values, complete):
    given = {**({name: [value] for name, value in GOOD.items()} if complete else {}), **values}
    try:
        request = parse(parse_query(urlencode(given, doseq=True)), SITES)
    except (Refused, Unredirectable) as error:
        told = error.redirect_uri if isinstance(error, Refused) else URI
        assert told in SITES[0].redirect_uris + SITES[1].redirect_uris
        return
    assert request.redirect_uri in SITES[0].redirect_uris + SITES[1].redirect_uris
    assert request.state
    assert len(request.code_challenge) == 43


# What is wrong besides is told to the site, with its state.


def test_each_parameter_given_twice_is_refused():
    for name in [*GOOD, "prompt", "max_age", "x"]:
        if name in ("client_id", "redirect_uri"):
            continue
        one = query() if name in GOOD else query(**{name: "0"})
        for second in ("", "0", GOOD.get(name, "0")):
            refused = refusal(f"{one}&{name}={quote(second)}")
            assert refused.error.code == "invalid_request"
            assert name in refused.error.message
            assert refused.state == ("" if name == "state" else "st4te"), "neither of two states is believed"


@pytest.mark.parametrize("name", ['"quoted"', "状态", "<b>", "a b", "x" * 300, "\x7f"])
def test_a_strangers_word_in_a_description_is_plain(name):
    """RFC 6749, 4.1.2.1: ASCII without quotes."""
    message = refusal(query() + f"&{quote(name)}=1&{quote(name)}=2").error.message
    assert all(" " <= letter <= "~" and letter not in '"\\<>' for letter in message)
    assert len(message) < 80


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge": ""},
        {"code_challenge_method": None},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge_method": "S256 "},
        {"code_challenge_method": "S512"},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": CHALLENGE[:-1]},
        {"code_challenge": CHALLENGE + "A"},
        {"code_challenge": CHALLENGE + "="},
        {"code_challenge": CHALLENGE[:-1] + "="},
        {"code_challenge": CHALLENGE[:-1] + "\n"},
        {"code_challenge": CHALLENGE + "\n"},
        {"code_challenge": CHALLENGE[:-1] + "+"},
        {"code_challenge": CHALLENGE[:-1] + "\0"},
        {"code_challenge": CHALLENGE[:-1] + "Ａ"},
        {"code_challenge": "v" * 43, "code_challenge_method": "plain"},
        {"code_challenge": "A" * 2000},
        {"code_challenge": None, "Code_Challenge": CHALLENGE},
    ],
)
def test_without_pkce_or_with_less_of_it_there_is_no_code(changes):
    refused = refusal(query(**changes))
    assert (refused.error.code, refused.state) == ("invalid_request", "st4te")
    assert "PKCE" in refused.error.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": ""}, "invalid_request"),
        *(
            ({"response_type": kind}, "unsupported_response_type")
            for kind in ("token", "id_token", "code id_token", "code token", "none", "Code", "code ", "\0")
        ),
        *(
            ({"response_mode": mode}, "invalid_request")
            for mode in ("fragment", "form_post", "query.jwt", "Query")
        ),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "https://shop.example.com/request"}, "request_uri_not_supported"),
        *(
            ({"prompt": words}, "invalid_request")
            for words in ("none login", "login none", "create", "Login", "\0")
        ),
        *(
            ({"max_age": age}, "invalid_request")
            for age in ("-1", "1.0", "1e3", "+1", " 1", "0x1", "٣", "9" * 10, "x")
        ),
        *(({"nonce": odd}, "invalid_request") for odd in ("\0", "a\nb", "\x85", "n" * (MAX_NONCE + 1))),
    ],
)
def test_what_is_not_understood_is_refused(changes, code):
    refused = refusal(query(**changes))
    assert (refused.error.code, refused.state) == (code, "st4te")


@pytest.mark.parametrize("state", [None, "", "s" * (MAX_STATE + 1), "a\0b", "a\nb", "\x7f", "\x9f"])
def test_a_state_is_required_and_can_be_told_back(state):
    assert code_of(query(state=state)) == "invalid_request"


@pytest.mark.parametrize(
    "state", ["x", "s" * MAX_STATE, "状态 & =?#%+\"'<>\\", " lead and trail ", "%00", "\u2028"]
)
def test_any_other_state_comes_back_as_it_was(state):
    request = parsed(query(state=state))
    assert request.state == state
    brought = answer(request.redirect_uri, code="c", state=request.state)
    assert dict(parse_qsl(urlsplit(brought).query)) == {"code": "c", "state": state}


@pytest.mark.parametrize(
    ("prompt", "relogin"),
    [
        ("", False),
        ("none", False),
        ("consent", False),
        ("login", True),
        ("select_account", True),
        ("consent login", True),
        ("login  login", True),
    ],
)
def test_prompts(prompt, relogin):
    assert parsed(query(prompt=prompt)).relogin is relogin


@pytest.mark.parametrize(("given", "seconds"), [("", None), ("0", 0), ("007", 7), ("999999999", 999_999_999)])
def test_max_age(given, seconds):
    assert parsed(query(max_age=given)).max_age == seconds


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, ""),
        ("", ""),
        ("openid", "openid"),
        ("profile openid", "openid profile"),
        ("openid openid email phone admin *", "openid"),
        ("OpenID", ""),
        (" ".join(reversed(SCOPES)), " ".join(SCOPES)),
        ("openid\0 profile", "profile"),
    ],
)
def test_of_the_scopes_the_known_ones_are_kept(asked, given):
    assert parsed(query(scope=asked)).scope == given


@pytest.mark.parametrize("denied", SCOPES)
def test_a_scope_that_is_not_the_sites_is_refused(denied):
    allowed = tuple(scope for scope in SCOPES if scope != denied)
    sites = (Site("shop", (URI,), allowed),)
    with pytest.raises(Refused) as refused:
        parse(parse_query(query(scope=" ".join(SCOPES))), sites)
    assert (refused.value.redirect_uri, refused.value.state) == (URI, "st4te")
    assert refused.value.error.code == "invalid_scope"
    assert denied in refused.value.error.message
    assert parse(parse_query(query(scope=f"{' '.join(allowed)} email")), sites).scope == " ".join(allowed)


@pytest.mark.parametrize(
    "name",
    [
        "response_mode",
        "request",
        "request_uri",
        "prompt",
        "max_age",
        "id_token_hint",
        "ui_locales",
        "claims",
        "x",
    ],
)
def test_what_is_given_without_a_value_counts_as_left_out(name):
    """RFC 6749, 3.1."""
    assert parsed(query(**{name: ""})) == parsed(query())


def test_what_we_do_not_know_is_left_alone():
    known = {
        "display": "popup",
        "login_hint": "x",
        "claims": "{}",
        "acr_values": "1",
        "resource": "https://x",
    }
    assert parsed(query(**known)) == parsed(query())


# Answers.


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        (URI, "https://shop.example.com/callback?code=c&state=s%26t"),
        (WITH_QUERY, "https://shop.example.com/other?a=b&code=c&state=s%26t"),
        (APP_URI, "com.example.app:/callback?code=c&state=s%26t"),
    ],
)
def test_an_answer_goes_into_the_query(uri, address):
    assert answer(uri, code="c", state="s&t", iss="") == address


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_nothing_in_an_answer_gets_out_of_its_place(value):
    address = answer(WITH_QUERY, state=value)
    assert address.isascii()
    assert address.isprintable()
    assert parse_qs(urlsplit(address).query, keep_blank_values=True) == {"a": ["b"], "state": [value]}
