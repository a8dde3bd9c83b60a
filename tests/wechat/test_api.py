"""What the platform's API is asked, and what is understood of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import vectors
from tests.wechat.vectors import Vector
from wechat import api
from wechat.api import Code, Follower, PlatformError

# Whether an answer is an error is read alike for every call; what else these say is not ours to read.
NOT_OURS = {
    "/sns/oauth2/access_token": "web authorisation is not used: the account's codes are",
    "/sns/oauth2/refresh_token": "web authorisation is not used",
    "/sns/auth": "web authorisation is not used",
    "/sns/userinfo": "web authorisation is not used",
    "/sns/jscode2session": "mini programs are not used",
}
READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "/cgi-bin/token": api.read_token,
    "/cgi-bin/qrcode/create": api.read_code,
    "/cgi-bin/user/info": api.read_follower,
    "/cgi-bin/getcallbackip": dict,
}


def path_of(vector: Vector) -> str:
    return vector.inputs["call"].split(" ")[1]


# --- the vectors ------------------------------------------------------------------------------------------


@vectors.each("api_response")
def test_an_answer_is_read_as_other_libraries_read_it(vector: Vector) -> None:
    answer = vector.inputs["body"].encode()
    expected = vector.expected
    if not expected["ok"]:
        with pytest.raises(PlatformError) as error:
            api.read(answer)
        assert error.value.code == expected["errcode"]
        assert error.value.plain_words
        return
    document = api.read(answer)
    if "json" in expected:
        assert document == expected["json"]
    assert path_of(vector) in (READERS.keys() | NOT_OURS.keys())
    if path_of(vector) in READERS:
        READERS[path_of(vector)](document)


def test_every_vector_of_the_api_is_run() -> None:
    ours = [vector for vector in vectors.ALL if vector.kind == "api_response" and vector.official]
    assert len(ours) == 18
    assert {vector.id for vector in ours} <= vectors.run
    assert all(NOT_OURS.values())


def test_values_of_the_vectors() -> None:
    def answered(name: str) -> dict:
        return api.read(vectors.named(name).inputs["body"].encode())

    assert api.read_token(answered("wechatpy-api-token")) == ("1234567890", 7200)
    assert api.read_code(answered("wechatpy-api-qrcode-create")) == Code(
        "gQH47joAAAAAAAAAASxodHRwOi8vd2VpeGluLnFxLmNvbS9xL2taZ2Z3TVRtNzJXV1Brb3ZhYmJJAAIEZ23sUwMEmm3sUw==",
        "https://weixin.qq.com/q/kZgfwMTm72WWPkovabbI",
    )
    old = api.read_follower(answered("wechatpy-api-user-info"))
    assert old.unionid == "o6_bmasdasdsad6_2sgVt7hMZOPfL", "the blank before it is WeChat's own"
    assert (old.nickname, old.country, old.province, old.city) == ("Band", "中国", "广东", "广州")
    assert old.picture.startswith("http://wx.qlogo.cn/")
    blank = api.read_follower(answered("issue-api-userinfo-blank"))
    assert blank == Follower("oNgvm6e3iVH_3q72O7oeDreWXfpg", following=True)
    control = api.read_follower(answered("issue-api-control-chars"))
    assert control == Follower("oX", following=True, nickname="ab")


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'{"errcode":40001,"errmsg":"no"}', 40001),
        (b'{"errcode":"40001","errmsg":"no"}', 40001),
        (b'{"errcode":" 40001 "}', 40001),
        (b'{"errcode":-1,"errmsg":"system error"}', -1),
        (b'{"errcode":40001,"access_token":"good","expires_in":7200}', 40001),
        (b'\t{"errcode":40001}\r\n', 40001),
        (b'{"errmsg":"\x01\x02","errcode":40001}', 40001),
        (b'{"errmsg":["a"],"errcode":40001}', 40001),
        (b'{"errmsg":"\xff\xfe","errcode":40001}', 40001),
    ],
)
def test_an_error_is_an_error_however_it_is_written(answer: bytes, code: int) -> None:
    with pytest.raises(PlatformError) as error:
        api.read(answer)
    assert error.value.code == code


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"   ",
        b"null",
        b"true",
        b"7",
        b'"success"',
        b"[]",
        b'[{"errcode":0}]',
        b"<html>502 Bad Gateway</html>",
        b"\x89PNG\r\n\x1a\n",
        b'{"access_token":"cut o',
        b'{"errcode":"many"}',
        b'{"errcode":""}',
        b'{"errcode":null}',
        b'{"errcode":[]}',
        b'{"errcode":{}}',
        b'{"errcode":NaN}',
        b'{"errcode":1e999}',
        b'{"errcode":-1e999}',
        b'{"errcode":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda answer: repr(answer[:24]),
)
def test_what_is_no_answer_is_an_error_of_ours(answer: bytes) -> None:
    with pytest.raises(PlatformError) as error:
        api.read(answer)
    assert error.value.code == api.UNREADABLE


@pytest.mark.parametrize("answer", [b'{"errcode":0,"errmsg":"ok"}', b'{"errcode":"0"}', b"{}", b'{"a":[1]}'])
def test_no_error_is_no_error(answer: bytes) -> None:
    assert api.read(answer) == json.loads(answer)


def test_a_long_answer_is_read() -> None:
    assert len(api.read(json.dumps({"name": "林" * 1_000_000}).encode())["name"]) == 1_000_000


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_object_or_an_error(answer: bytes) -> None:
    try:
        document = api.read(answer)
    except PlatformError:
        return
    assert isinstance(document, dict)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children),
    max_leaves=8,
)
_names = ("errcode", "access_token", "expires_in", "ticket", "url", "openid", "subscribe", "nickname")


@given(st.dictionaries(st.sampled_from(_names), _json))
def test_every_reader_reads_or_refuses(document: dict) -> None:
    try:
        document = api.read(json.dumps(document).encode())
    except PlatformError:
        return
    for reader in READERS.values():
        with suppress(PlatformError):
            reader(document)


def test_errors_tell_the_operator_what_to_do() -> None:
    assert "IP" in PlatformError(40164).plain_words
    assert "verified service account" in PlatformError(48001).plain_words
    assert "12345" in PlatformError(12345, "odd").plain_words
    assert "odd" in PlatformError(12345, "odd").plain_words
    assert len(str(PlatformError(1, "x" * 10_000))) < 300


def test_the_codes_that_cost_the_token() -> None:
    assert {40001, 40014, 42001} == api.TOKEN_REFUSED


# --- access tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"expires_in": 7200},
        {"access_token": "", "expires_in": 7200},
        {"access_token": None, "expires_in": 7200},
        {"access_token": ["a"], "expires_in": 7200},
        {"access_token": "a"},
        {"access_token": "a", "expires_in": None},
        {"access_token": "a", "expires_in": True},
        {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "expires_in": 0},
        {"access_token": "a", "expires_in": -1},
        {"access_token": "a", "expires_in": 10**400},
        {"access_token": "a\ud800", "expires_in": 7200},
        {"access_token": "a\r\nb", "expires_in": 7200},
    ],
    ids=repr,
)
def test_what_is_no_token_never_replaces_one(document: dict) -> None:
    with pytest.raises(PlatformError) as error:
        api.read_token(document)
    assert error.value.code == api.UNREADABLE


def test_a_token_of_512_characters_is_one() -> None:
    assert api.read_token({"access_token": "a" * 512, "expires_in": 1}) == ("a" * 512, 1.0)


# --- codes and followers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [{}, {"ticket": "t"}, {"url": "u"}, {"ticket": 1, "url": "u"}])
def test_a_code_needs_ticket_and_url(document: dict) -> None:
    with pytest.raises(PlatformError):
        api.read_code(document)


@pytest.mark.parametrize("document", [{}, {"openid": ""}, {"openid": 7}, {"openid": " "}, {"subscribe": 1}])
def test_a_follower_has_an_openid(document: dict) -> None:
    with pytest.raises(PlatformError):
        api.read_follower(document)


@pytest.mark.parametrize(
    ("subscribe", "following"),
    [(1, True), ("1", True), (0, False), ("0", False), (None, False), ([], False), ("yes", False)],
)
def test_whether_a_person_follows(subscribe: object, following: bool) -> None:
    assert api.read_follower({"openid": "o", "subscribe": subscribe}).following is following


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("  Wei 🐼 ", "Wei 🐼"),
        ("阿海🏄\u200d♂️🌊", "阿海🏄\u200d♂️🌊"),
        ("a\x00b\x08c\x1b[31m\x7f", "abc[31m"),
        ("a\x85b\x9fc", "abc"),
        ("cut \ud83d emoji", "cut  emoji"),
        ("\n\t", ""),
        (None, ""),
        (7, ""),
        (["a"], ""),
        ("x" * 5000, "x" * 1024),
    ],
)
def test_a_name_is_text_that_can_be_kept(told: object, kept: str) -> None:
    nickname = api.read_follower(api.read(json.dumps({"openid": "o", "nickname": told}).encode())).nickname
    assert nickname == kept
    nickname.encode("utf-8")


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "data:image/png;base64,AA", "//host/a", "file:///etc/passwd", "ftp://a"],
)
def test_a_picture_is_a_web_address(address: str) -> None:
    assert api.read_follower({"openid": "o", "headimgurl": address}).picture == ""


# --- requests ---------------------------------------------------------------------------------------------


def test_requests() -> None:
    base = "https://api.weixin.qq.com/"
    stable = api.stable_token("wx1", "s&1", force=True)
    assert stable.url(base, "unused") == "https://api.weixin.qq.com/cgi-bin/stable_token"
    assert json.loads(stable.encoded_body() or b"") == {
        "grant_type": "client_credential",
        "appid": "wx1",
        "secret": "s&1",
        "force_refresh": True,
    }
    ordinary = api.ordinary_token("wx1", "s&1")
    assert ordinary.encoded_body() is None
    assert ordinary.url(base).endswith("/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s%261")
    code = api.create_code("scene-1", 300)
    assert code.url(base, "a+b").endswith("/cgi-bin/qrcode/create?access_token=a%2Bb")
    assert json.loads(code.encoded_body() or b"") == {
        "expire_seconds": 300,
        "action_name": "QR_STR_SCENE",
        "action_info": {"scene": {"scene_str": "scene-1"}},
    }
    assert "openid=o%26x%3D1" in api.user_info("o&x=1").url(base, "t"), "an openid adds no parameter"
    assert "扫码".encode() in (api.create_code("扫码", 1).encoded_body() or b""), "never \\uXXXX"
