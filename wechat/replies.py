"""Passive replies: what WeChat may be answered with.

Source: https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Passive_user_reply_message.html
"""

from __future__ import annotations

from wechat.messages import Message
from wechat.xml import Writable, write

SUCCESS = b"success"  # accepted, nothing to say; never encrypted
MAX_TEXT_BYTES = 2048


def text_reply(message: Message, content: str, now: float) -> bytes:
    """A text for the person who caused `message`, cut to WeChat's limit at a whole character."""
    cut = content.encode("utf-8", "ignore")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    fields: dict[str, Writable] = {
        "ToUserName": message.openid,
        "FromUserName": message.account,
        "CreateTime": int(now),
        "MsgType": "text",
        "Content": cut,
    }
    return write(fields).encode("utf-8")
