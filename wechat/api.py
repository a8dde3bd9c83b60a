"""Requests to the platform's API and what it answers. Pure: `client.py` carries them.

Errors come with HTTP status 200 and an `errcode`, often as text/plain without a charset, sometimes with the
code as a string or with raw control characters in a name.
Source: https://developers.weixin.qq.com/doc/offiaccount/ (the pages named at each function).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

# The token is not (any longer) the platform's: fetch once, retry once.
TOKEN_REFUSED = frozenset({40001, 40014, 42001})
BUSY = -1
QUOTA_USED_UP = 45009
CREATE_CODE = "/cgi-bin/qrcode/create"
UNREADABLE = -1000  # ours: the answer was no JSON object, or lacked what it must have
_LONGEST_TOKEN_LIFE = 31 * 86400  # seconds; WeChat's live for two hours

# Control characters and the halves of cut emoji. Joiners stay: many emoji are made with them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# What an operator is told of an error; the pages translate it.
PLAIN_WORDS = {
    BUSY: "WeChat is busy; saoma tries again by itself.",
    40001: "WeChat does not accept the access token, or the AppSecret is wrong: check wechat.secret.",
    40013: "WeChat does not know this AppID: check wechat.appid.",
    40125: "The AppSecret is wrong: check wechat.secret against WeChat's console.",
    40164: "This server's IP address is not on the account's list: add it in WeChat's console (IP白名单).",
    40243: "The AppSecret is frozen: unfreeze it in WeChat's console.",
    41002: "The AppID is missing.",
    41004: "The AppSecret is missing.",
    45009: "The daily quota of this call is used up; WeChat resets it at midnight (Beijing time).",
    45011: "Too many calls in this minute.",
    45015: "The person has not written to or scanned the account lately, so no message can be sent.",
    45047: "Too many messages were sent to this person without an answer.",
    48001: "This account may not make such codes: it takes a verified service account (or a test account);"
    " unverified and subscription accounts cannot.",
    43004: "The person no longer follows the account.",
    48002: "The person refuses messages of the account.",
    48004: "WeChat has barred the account from this call.",
    50004: "WeChat has barred the account from fetching tokens.",
    50002: "WeChat has restricted this account.",
    89503: "A call from this IP address waits for an administrator's approval in WeChat's console.",
    89506: "An administrator refused this IP address; it may try again after 24 hours.",
    89507: "An administrator refused this IP address; it may try again after an hour.",
    UNREADABLE: "WeChat's answer could not be understood: is wechat.api_base right?",
}


class PlatformError(Exception):
    """WeChat answered with an error. `plain_words` is what an operator is told."""

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        self.detail = detail[:200]
        super().__init__(f"errcode {code} {self.detail}")

    @property
    def plain_words(self) -> str:
        known = PLAIN_WORDS.get(self.code)
        return known or f"WeChat answered with error {self.code} ({self.detail})."


@dataclass(frozen=True, slots=True)
class Call:
    """One request; the access token is added by the client where `needs_token`."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None  # None: GET
    needs_token: bool = True
    repeatable: bool = True  # whether it may be sent again when no answer came

    def url(self, api_base: str, token: str = "") -> str:
        query = {"access_token": token, **self.query} if self.needs_token else self.query
        return f"{api_base.rstrip('/')}{self.path}" + (f"?{urlencode(query)}" if query else "")

    def encoded_body(self) -> bytes | None:
        # Not \uXXXX: messages used to show that to people literally.
        return None if self.body is None else json.dumps(self.body, ensure_ascii=False).encode("utf-8")


@dataclass(frozen=True, slots=True)
class Code:
    """A parameter code: `url` is the text to draw, `ticket` comes back in the events of its scans."""

    ticket: str
    url: str


@dataclass(frozen=True, slots=True)
class Follower:
    """A person as the platform tells; every field but `openid` may be blank (the rule since 2021-12-27)."""

    openid: str
    following: bool
    nickname: str = ""
    picture: str = ""
    country: str = ""
    province: str = ""
    city: str = ""
    unionid: str = ""


def stable_token(appid: str, secret: str, *, force: bool = False) -> Call:
    """…/api/base/api_getstableaccesstoken: the same token while it is valid; forced, 20 a day."""
    body = {"grant_type": "client_credential", "appid": appid, "secret": secret, "force_refresh": force}
    return Call("/cgi-bin/stable_token", body=body, needs_token=False)


def ordinary_token(appid: str, secret: str) -> Call:
    """…/api/base/api_getaccesstoken: a new token each time, 2,000 a day."""
    query = {"grant_type": "client_credential", "appid": appid, "secret": secret}
    return Call("/cgi-bin/token", query=query, needs_token=False)


def create_code(scene: str, seconds: int) -> Call:
    """…/api/qrcode/qrcodes/api_createqrcode: a temporary code with a string scene of 1 to 64 characters."""
    action = {"scene": {"scene_str": scene}}
    body = {"expire_seconds": seconds, "action_name": "QR_STR_SCENE", "action_info": action}
    return Call(CREATE_CODE, body=body)


def custom_message(openid: str, text: str) -> Call:
    """…/api/customer/message/api_sendcustommessage: a text into the person's chat, soon after their scan."""
    body = {"touser": openid, "msgtype": "text", "text": {"content": text}}
    return Call("/cgi-bin/message/custom/send", body=body, repeatable=False)


def user_info(openid: str) -> Call:
    """…/api/usermanage/userinfo/api_userinfo"""
    return Call("/cgi-bin/user/info", query={"openid": openid, "lang": "zh_CN"})


def callback_addresses() -> Call:
    """…/api/base/api_getcallbackip: where pushes come from; answers to any caller with a good token."""
    return Call("/cgi-bin/getcallbackip")


def read(answer: bytes, *, hide: Iterable[str] = ()) -> dict[str, Any]:
    """The answer's JSON object. Raises PlatformError for an error and for what is no answer.

    An error's words are shown and logged: what is in `hide` does not stand in them.
    """
    try:
        document = json.loads(answer.decode("utf-8", "replace"), strict=False)
        code = int(document.get("errcode", 0))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise PlatformError(UNREADABLE) from None
    if code:
        detail = str(document.get("errmsg", ""))
        for secret in filter(None, hide):
            detail = detail.replace(secret, "…")
        raise PlatformError(code, detail)
    assert isinstance(document, dict)
    return document


def read_token(document: Mapping[str, Any]) -> tuple[str, float]:
    """The access token and the seconds it is good for. Raises PlatformError."""
    token, seconds = document.get("access_token"), document.get("expires_in")
    if not (isinstance(token, str) and token and token.isascii() and token.isprintable()):
        raise PlatformError(UNREADABLE)
    if type(seconds) is not int or not 0 < seconds <= _LONGEST_TOKEN_LIFE:
        raise PlatformError(UNREADABLE)
    return token, float(seconds)


def read_code(document: Mapping[str, Any]) -> Code:
    """Raises PlatformError."""
    code = Code(_text(document, "ticket"), _text(document, "url"))
    if not (code.ticket and code.url):
        raise PlatformError(UNREADABLE)
    return code


def read_follower(document: Mapping[str, Any]) -> Follower:
    """Raises PlatformError."""
    openid = _text(document, "openid")
    if not openid:
        raise PlatformError(UNREADABLE)
    picture = _text(document, "headimgurl")
    return Follower(
        openid=openid,
        following=document.get("subscribe") in (1, "1"),
        nickname=_text(document, "nickname"),
        picture=picture if picture.startswith(("http://", "https://")) else "",
        country=_text(document, "country"),
        province=_text(document, "province"),
        city=_text(document, "city"),
        unionid=_text(document, "unionid"),  # WeChat's own sample has a blank at its start
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    """Stripped, without what no store can keep, cut to what a name or an address can be."""
    value = document.get(name)
    return _UNFIT.sub("", value).strip()[:1024] if isinstance(value, str) else ""
