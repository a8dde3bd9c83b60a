"""Posts pushes to the callback as WeChat does, and judges the answers.

No answer within 5 s, or none that is valid: the same push once more, three times in all.
Source: https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_event_pushes.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from emulator.platform import MAX_TEXT_BYTES, Platform
from wechat.callback import Mode
from wechat.crypto import DecryptionFailed, MessageCrypto
from wechat.signature import matches, sign
from wechat.xml import Fields, MalformedXml, Writable, parse, text_of, write

TIMEOUT = 5.0
TRIES = 3

_HEADERS = {"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0", "Pragma": "no-cache"}
_REPLY_TYPES = frozenset({"text", "image", "voice", "video", "music", "news", "transfer_customer_service"})
_LONGEST_SECONDS = 10  # digits; milliseconds have more
_MAX_CLIENTS = 1000


@dataclass(frozen=True, slots=True)
class Push:
    """A signed POST, ready to be sent: as often as one likes, and with anything `replace`d."""

    openid: str
    url: str
    body: bytes
    clear_xml: str  # the message before encryption
    headers: Mapping[str, str] = field(default_factory=lambda: dict(_HEADERS))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST and what came back."""

    at: float  # Unix seconds
    seconds: float  # until the answer
    url: str
    body: bytes
    clear_xml: str
    status: int  # HTTP status, 0 where there was no answer
    answer: bytes  # as received
    clear_answer: str  # decrypted where it was encrypted
    reply: Fields | None  # a passive reply; None for `success`, empty and invalid answers
    fault: str  # why the answer is not valid, "" if it is


@dataclass(frozen=True, slots=True)
class Outcome:
    """All attempts of one push, the last of which decides."""

    push: Push
    attempts: tuple[Attempt, ...]

    @property
    def accepted(self) -> bool:
        return not self.attempts[-1].fault

    @property
    def reply(self) -> Fields | None:
        return self.attempts[-1].reply

    @property
    def reply_text(self) -> str:
        """The text of a text reply, "" for every other answer."""
        content = (self.reply or {}).get("Content", "")
        return content if isinstance(content, str) else ""


class _Invalid(Exception):
    """An answer that WeChat does not take."""


class Courier:
    """Builds and posts the platform's pushes. `timeout` is in seconds, `tries` counts all deliveries."""

    def __init__(self, platform: Platform, *, timeout: float = TIMEOUT, tries: int = TRIES) -> None:
        self.platform = platform
        self.timeout = timeout
        self.tries = tries

    def build(self, openid: str, fields: Mapping[str, Writable], created_at: int | None = None) -> Push:
        """A signed push from `openid`, not sent. `fields` come after the four common ones' first three.

        The same fields and `created_at` again give the same message with another signature.
        """
        account = self.platform.account
        clear: dict[str, Writable] = {
            "ToUserName": account.original_id,
            "FromUserName": openid,
            "CreateTime": int(self.platform.now()) if created_at is None else created_at,
            **fields,
        }
        clear_xml = write(clear)
        timestamp, nonce = self._stamp()
        query = {
            "signature": sign(account.token, timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
            "openid": openid,
        }
        if account.mode is Mode.PLAIN:
            return Push(openid, self._url(query), clear_xml.encode("utf-8"), clear_xml)
        encrypted = self._crypto().encrypt(
            clear_xml.encode("utf-8"), self.platform.random(16).encode("ascii")
        )
        query |= {
            "encrypt_type": "aes",
            "msg_signature": sign(account.token, timestamp, nonce, encrypted),
        }
        envelope: dict[str, Writable] = (
            {**clear, "Encrypt": encrypted}
            if account.mode is Mode.COMPATIBLE
            else {"ToUserName": account.original_id, "Encrypt": encrypted}
        )
        return Push(openid, self._url(query), write(envelope).encode("utf-8"), clear_xml)

    async def deliver(self, openid: str, fields: Mapping[str, Writable]) -> Outcome:
        """Builds and sends."""
        return await self.send(self.build(openid, fields))

    async def send(self, push: Push) -> Outcome:
        """Posts until there is a valid answer, unchanged each time."""
        attempts: list[Attempt] = []
        while not attempts or (attempts[-1].fault and len(attempts) < self.tries):
            attempts.append(await self.post(push))
        return Outcome(push, tuple(attempts))

    async def post(self, push: Push) -> Attempt:
        """Posts once, whatever comes of it."""
        at = self.platform.now()
        request = HTTPRequest(
            push.url,
            method="POST",
            headers=dict(push.headers),
            body=push.body,
            connect_timeout=self.timeout,
            request_timeout=self.timeout,
            follow_redirects=False,
        )
        attempt = Attempt(at, 0.0, push.url, push.body, push.clear_xml, 0, b"", "", None, "")
        try:
            response = await self._client.fetch(request, raise_error=False)
        except HTTPTimeoutError:
            return replace(attempt, seconds=self.timeout, fault=f"no answer within {self.timeout:g} s")
        except (OSError, HTTPClientError) as error:
            return replace(attempt, fault=f"no answer: {error}")
        answer = response.body or b""
        attempt = replace(attempt, seconds=response.request_time or 0.0, status=response.code, answer=answer)
        try:
            clear, reply = self._read_answer(push.openid, response.code, answer)
        except _Invalid as error:
            return replace(attempt, clear_answer=answer.decode("utf-8", "replace"), fault=str(error))
        return replace(attempt, clear_answer=clear, reply=reply)

    async def verify_url(self) -> bool:
        """The check made when the address is saved in the console: does a signed GET echo `echostr`?"""
        timestamp, nonce = self._stamp()
        echo = self.platform.random(19)
        query = {
            "signature": sign(self.platform.account.token, timestamp, nonce),
            "echostr": echo,
            "timestamp": timestamp,
            "nonce": nonce,
        }
        request = HTTPRequest(self._url(query), request_timeout=self.timeout, follow_redirects=False)
        try:
            response = await self._client.fetch(request, raise_error=False)
        except (OSError, HTTPClientError):
            return False
        return response.code == 200 and response.body == echo.encode("ascii")

    def close(self) -> None:
        self._client.close()

    @cached_property
    def _client(self) -> AsyncHTTPClient:
        # Its own, and wide: a queue of ten would count waiting as the callback's slowness.
        return SimpleAsyncHTTPClient(force_instance=True, max_clients=_MAX_CLIENTS)

    def _crypto(self) -> MessageCrypto:
        return MessageCrypto(self.platform.account.encoding_aes_key, self.platform.account.appid)

    def _stamp(self) -> tuple[str, str]:
        """Timestamp and nonce; WeChat's nonces are digits."""
        nonce = int.from_bytes(self.platform.random(16).encode("ascii"), "big") % 10**10
        return str(int(self.platform.now())), str(nonce)

    def _url(self, query: Mapping[str, str]) -> str:
        url = self.platform.account.callback_url
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    def _read_answer(self, openid: str, status: int, answer: bytes) -> tuple[str, Fields | None]:
        """The answer in clear, and the passive reply if it is one. Raises _Invalid."""
        if status != 200:
            raise _Invalid(f"HTTP status {status}")
        if answer in (b"", b"success"):
            return answer.decode("ascii"), None
        try:
            fields = parse(answer)
            if "Encrypt" in fields:
                answer = self._open_reply(fields)
                fields = parse(answer)
            elif self.platform.account.mode is Mode.SAFE:
                raise _Invalid("a reply in clear in safe mode")
            self._require_reply(openid, fields)
        except (MalformedXml, DecryptionFailed) as error:
            raise _Invalid(f"no valid reply: {error or 'cannot be decrypted'}") from error
        return answer.decode("utf-8"), fields

    def _open_reply(self, envelope: Fields) -> bytes:
        if self.platform.account.mode is Mode.PLAIN:
            raise _Invalid("an encrypted reply in plain mode")
        encrypted = text_of(envelope, "Encrypt")
        parts = (text_of(envelope, "TimeStamp"), text_of(envelope, "Nonce"), encrypted)
        if not matches(text_of(envelope, "MsgSignature"), self.platform.account.token, *parts):
            raise _Invalid("the reply's MsgSignature is wrong")
        return self._crypto().decrypt(encrypted)

    def _require_reply(self, openid: str, fields: Fields) -> None:
        if text_of(fields, "ToUserName") != openid:
            raise _Invalid("the reply is for somebody else")
        if text_of(fields, "FromUserName") != self.platform.account.original_id:
            raise _Invalid("the reply is from another account")
        created_at = text_of(fields, "CreateTime")
        if not (created_at.isdigit() and len(created_at) <= _LONGEST_SECONDS):
            raise _Invalid("CreateTime is not in seconds")
        kind = text_of(fields, "MsgType")
        if kind not in _REPLY_TYPES:
            raise _Invalid(f"no reply can be of type {kind}")
        if kind == "text" and not 1 <= len(text_of(fields, "Content").encode("utf-8")) <= MAX_TEXT_BYTES:
            raise _Invalid("the text is empty or too long")
