"""The people who own the phones, and what WeChat tells about each of them."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.delivery import Outcome
    from emulator.own_app import AppScreen

_OPENID_CHARACTERS = 28
_LONGEST_CHAT = 200


class Speaker(StrEnum):
    """Who put an entry into a chat."""

    PERSON = "person"  # a text of the person's own
    ACTION = "action"  # something the person did: scanned, followed
    ACCOUNT = "account"  # a reply or a message of the account
    WECHAT = "wechat"  # a notice of WeChat itself


@dataclass(slots=True)
class Entry:
    """One line of a chat. `outcome` is what came of posting it to the callback, None where nothing was."""

    speaker: Speaker
    text: str
    at: float  # Unix seconds
    outcome: Outcome | None = None


class Disclosure(StrEnum):
    """How much of a follower's profile `user/info` gives away."""

    FULL = "full"  # as it was until 2021
    BLANK = "blank"  # the fields are there and empty
    ABSENT = "absent"  # the fields are not there at all


@dataclass(slots=True)
class Window:
    """How long, and how often, the account may still write on its own."""

    until: float = 0.0  # Unix seconds
    left: int = 0


@dataclass(slots=True)
class Person:
    """Somebody with a phone. `name` is known to the phone; WeChat tells it by `disclosure` alone."""

    openid: str
    name: str
    disclosure: Disclosure = Disclosure.BLANK
    unionid: str = ""
    sex: int = 0  # 1 a man, 2 a woman, 0 not said
    country: str = ""
    province: str = ""
    city: str = ""
    following: bool = False
    followed_at: int = 0  # Unix seconds
    followed_by: str = ""  # WeChat's subscribe_scene
    scene_id: int = 0  # of the code that the person followed by
    scene_str: str = ""
    after_message: Window = field(default_factory=Window)
    after_event: Window = field(default_factory=Window)
    chat: deque[Entry] = field(default_factory=lambda: deque(maxlen=_LONGEST_CHAT))
    app_screen: AppScreen | None = None  # of the team's own app; None until it has scanned something

    def say(self, speaker: Speaker, text: str, at: float) -> Entry:
        """Adds a line to the chat."""
        entry = Entry(speaker, text, at)
        self.chat.append(entry)
        return entry

    def info(self, picture: str) -> dict[str, Any]:
        """The answer of `user/info`; `picture` is the address of the person's picture."""
        if not self.following:
            return {"subscribe": 0, "openid": self.openid}
        union = {"unionid": self.unionid} if self.unionid else {}
        return {
            "subscribe": 1,
            "openid": self.openid,
            **self._profile(picture),
            "language": "zh_CN",
            "subscribe_time": self.followed_at,
            **union,
            "remark": "",
            "groupid": 0,
            "tagid_list": [],
            "subscribe_scene": self.followed_by,
            "qr_scene": self.scene_id,
            "qr_scene_str": self.scene_str,
        }

    def _profile(self, picture: str) -> dict[str, Any]:
        match self.disclosure:
            case Disclosure.FULL:
                return {
                    "nickname": self.name,
                    "sex": self.sex,
                    "city": self.city,
                    "province": self.province,
                    "country": self.country,
                    "headimgurl": picture,
                }
            case Disclosure.BLANK:
                return {
                    "nickname": "",
                    "sex": 0,
                    "city": "",
                    "province": "",
                    "country": "",
                    "headimgurl": "",
                }
            case Disclosure.ABSENT:
                return {}


def openid_of(appid: str, name: str) -> str:
    """`o` and 27 characters; the same after a restart, which must not make strangers of people."""
    digest = hashlib.sha256(f"{appid}\n{name}".encode()).digest()
    return ("o" + base64.urlsafe_b64encode(digest).decode("ascii"))[:_OPENID_CHARACTERS]


def cast(appid: str, now: float) -> list[Person]:
    """The people of the demo: followers and strangers, with every kind of profile."""

    def person(name: str, disclosure: Disclosure, **more: Any) -> Person:
        return Person(openid_of(appid, name), name, disclosure, **more)

    since = {"following": True, "followed_at": int(now) - 86400, "followed_by": "ADD_SCENE_SEARCH"}
    return [
        person("林小满", Disclosure.BLANK),
        # WeChat's own sample has a blank before the unionid.
        person("Wei 🐼", Disclosure.BLANK, unionid=" o6_bmasdasdsad6_2sgVt7hMZOPfL", **since),
        person(
            "陈默",
            Disclosure.FULL,
            unionid="o6_bmjrPTlm6_2sgVt7hMZOPchen",
            sex=1,
            country="中国",
            province="广东",
            city="深圳",
            **since,
        ),
        person("Zoë Müller", Disclosure.ABSENT),
        person("阿海🏄‍♂️🌊", Disclosure.BLANK),
    ]
