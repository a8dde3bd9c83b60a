"""Where a browser may be sent: exactly there, whatever the disguise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BadRequest
from flows.redirects import HOME, MAX_LENGTH, allowed, checked

ORIGINS = ("https://www.example.com", "http://intern.example:8080", "https://[2001:db8::1]")

FINE = [
    "/",
    "/a",
    "/a/b?c=d&e=%2F%2F#f",
    "/?next=https://evil.example",
    "/login?next=%2F",
    "/扫码?名=值",
    "/a//b",
    "/.",
    "/%2F%2Fevil.example",
    "/%5Cevil.example",
    "/:80",
    "/@evil.example",
    "https://www.example.com",
    "https://www.example.com/",
    "https://www.example.com/a?b=c#d",
    "https://www.example.com?a=b",
    "https://www.example.com#a",
    "HTTPS://WWW.EXAMPLE.COM/a",
    "http://intern.example:8080/",
    "https://[2001:db8::1]/",
    "https://www.example.com/@evil.example",
]
REFUSED = [
    "",
    " ",
    "a",
    "a/b",
    "../a",
    "?a=b",
    "#a",
    # Another host that a path seems to be.
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/%2e%2e",
    "//www.example.com",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\\/evil.example",
    "/a\\b",
    # What browsers drop before they look.
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/ /evil.example",
    "/a\x00",
    "/a\x1f",
    "/a\x7f",
    "/a\x85",
    "/a\r\nSet-Cookie: a=b",
    "ht\ntps://www.example.com",
    "https://www.example.com\n.evil.example",
    "\x01https://www.example.com",
    # Another origin that looks like one of ours.
    "https://evil.example",
    "https://evil.example/https://www.example.com",
    "https://www.example.com.evil.example",
    "https://www.example.com.",
    "https://wwwxexample.com",
    "https://xwww.example.com",
    "https://example.com",
    "https://a.www.example.com",
    "https://www.example.com:443",
    "https://www.example.com:444",
    "https://www.example.com:",
    "https://www.example.com:x",
    "https://www.example.com:99999",
    "http://www.example.com",
    "http://intern.example",
    "http://intern.example:80801",
    "https://intern.example:8080",
    "https://[2001:db8::2]",
    "https://[2001:db8::1",
    "https://2001:db8::1",
    # A user part.
    "https://www.example.com@evil.example",
    "https://www.example.com:x@evil.example",
    "https://evil.example@www.example.com",
    "https://@www.example.com",
    "https://:@www.example.com",
    "https://www.example.com%40evil.example",
    "https://www.example.com\\@evil.example",
    "https://www.example.com\\.evil.example",
    "https://www.example.com;evil.example",
    # Other schemes, and none.
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "javascript://www.example.com/%0aalert(1)",
    "data:text/html,<script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://www.example.com",
    "blob:https://www.example.com/1",
    "view-source:https://www.example.com",
    "https:",
    "https:/",
    "https://",
    "https:www.example.com",
    "https:/www.example.com",
    "https:///www.example.com",
    "://www.example.com",
    "www.example.com",
    # Letters that become others.
    "https://www.example.com／.evil.example",
    "https://www.example.com？.evil.example",
    "https://www.ｅxample.com",
    "https://www.ex\u00adample.com",
    "https://www.example\u3002com",
    "https://www.ехample.com",
    "／／evil.example",
    # No text at all.
    "/\ud800",
    "/\udcff/a",
    "https://www.example.com/\ud83d",
    "/" + "a" * MAX_LENGTH,
]


@pytest.mark.parametrize("target", FINE)
def test_a_place_of_ours(target: str):
    assert allowed(target, ORIGINS)
    assert checked(target, ORIGINS) == target


@pytest.mark.parametrize("target", REFUSED, ids=ascii)
def test_a_disguise(target: str):
    assert not allowed(target, ORIGINS)


@pytest.mark.parametrize("target", [target for target in REFUSED if target], ids=ascii)
def test_a_disguise_is_refused_when_given(target: str):
    with pytest.raises(BadRequest):
        checked(target, ORIGINS)


def test_nothing_is_home():
    assert checked("", ORIGINS) == HOME == "/"


@pytest.mark.parametrize("target", [target for target in FINE if target.startswith("http")])
def test_without_origins_there_are_paths_alone(target: str):
    assert not allowed(target, ())
    assert allowed("/a", ())


def test_the_longest_one():
    assert allowed("/" + "a" * (MAX_LENGTH - 1), ())


@settings(deadline=None)
@given(st.text(max_size=30))
def test_what_is_allowed_stays_here(target: str):
    """As a browser reads it: controls dropped, backslashes turned."""
    if allowed(target, ()):
        assert target.startswith("/")
        assert not "".join(c for c in target if c > " ").replace("\\", "/").startswith("//")
