"""What WeChat pushes: messages and events, and what each of them means for a login.

Source: https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_event_pushes.html
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from wechat.xml import Fields, MalformedXml, text_of

_SCENE_PREFIX = "qrscene_"
_LONGEST_ID = 128
_LONGEST_TIME = 12


class Action(StrEnum):
    """What a push means for us."""

    FOLLOW_BY_CODE = "follow_by_code"  # followed through a parameter code: may log in
    SCAN = "scan"  # a follower scanned a parameter code: may log in
    FOLLOW = "follow"  # followed some other way
    UNFOLLOW = "unfollow"
    MESSAGE = "message"
    OTHER_EVENT = "other_event"


@dataclass(frozen=True, slots=True)
class Message:
    """One push. `created_at` is WeChat's CreateTime, Unix seconds."""

    account: str  # ToUserName, our gh_ id
    openid: str  # FromUserName
    created_at: int
    type: str  # MsgType in lower case
    event: str  # Event in lower case, "" for messages
    event_key: str
    ticket: str  # WeChat's ticket of the scanned code
    message_id: str  # MsgId, "" for events: a 64-bit number, so never a float

    @property
    def action(self) -> Action:
        if self.type != "event":
            return Action.MESSAGE
        match self.event:
            case "subscribe":
                by_code = self.event_key.startswith(_SCENE_PREFIX)
                return Action.FOLLOW_BY_CODE if by_code else Action.FOLLOW
            case "scan":
                return Action.SCAN
            case "unsubscribe":
                return Action.UNFOLLOW
            case _:
                return Action.OTHER_EVENT

    @property
    def scene(self) -> str | None:
        """The scene of the scanned code, None for everything that is no scan.

        A follow carries `qrscene_` before it, exactly once: the scene itself may begin with the same.
        """
        match self.action:
            case Action.FOLLOW_BY_CODE:
                return self.event_key.removeprefix(_SCENE_PREFIX)
            case Action.SCAN:
                return self.event_key
            case _:
                return None

    @property
    def delivery_key(self) -> str:
        """The same for each delivery of one push, and for no other push.

        WeChat's page advises MsgId, or FromUserName and CreateTime; seen in the field: one MsgId for two
        people, and two events of one person in one second.
        """
        identity: list[str | int] = [self.account, self.openid, self.type]
        if self.type == "event" or not self.message_id:
            identity += [self.created_at, self.event, self.event_key]
        else:
            identity += [self.message_id]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def read_message(fields: Fields) -> Message:
    """The message in a parsed push. Raises MalformedXml where its common fields are missing or odd."""
    created_at = text_of(fields, "CreateTime")
    if not (created_at.isascii() and created_at.isdigit() and len(created_at) <= _LONGEST_TIME):
        raise MalformedXml("CreateTime is no number of seconds")
    message = Message(
        account=_id_of(fields, "ToUserName"),
        openid=_id_of(fields, "FromUserName"),
        created_at=int(created_at),
        type=text_of(fields, "MsgType").lower(),
        event=_optional(fields, "Event").lower(),
        event_key=_optional(fields, "EventKey"),
        ticket=_optional(fields, "Ticket"),
        message_id=_optional(fields, "MsgId"),
    )
    if not message.type:
        raise MalformedXml("MsgType is empty")
    return message


def _id_of(fields: Fields, name: str) -> str:
    value = text_of(fields, name)
    if not 1 <= len(value) <= _LONGEST_ID or not value.isprintable():
        raise MalformedXml(f"{name} is no id")
    return value


def _optional(fields: Fields, name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""
