"""The gate in front of the callback: who may speak to us, and how we answer.

The mode, the tokens and the keys come from the settings; nothing in a request picks among them but by
fitting. Every refusal is the same `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl

from wechat.crypto import DecryptionFailed, MessageCrypto
from wechat.messages import Message, read_message
from wechat.replies import SUCCESS
from wechat.signature import matches, sign
from wechat.xml import Fields, MalformedXml, Writable, parse, text_of, write

_MAX_PARAMETERS = 16
_ENVELOPE_DEPTH = 2  # the root and its children
_ENVELOPE_FIELDS = frozenset({"ToUserName", "AgentID", "Encrypt"})
_LONGEST_TIME = 12


class Mode(StrEnum):
    """As set in WeChat's console (消息加解密方式)."""

    PLAIN = "plain"
    COMPATIBLE = "compatible"
    SAFE = "safe"


class Refused(Exception):
    """Not from WeChat, not fresh or not intact. Which of them is told to the log alone, in words of ours."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One authenticated POST."""

    message: Message
    fields: Fields
    signature: str  # the query's `signature`: in plain mode it must not come with two bodies
    crypto: MessageCrypto | None  # the key that opened it and seals the reply; None in plain mode
    token: str = field(repr=False)  # the one it is signed with, which signs the reply


@dataclass(frozen=True, slots=True)
class Gate:
    """`tokens` and `cryptos` have the current one first; a previous one may follow while they rotate."""

    mode: Mode
    tokens: tuple[str, ...] = field(repr=False)
    cryptos: tuple[MessageCrypto, ...]
    window: float  # seconds that a timestamp may be away from now, either way

    def __post_init__(self) -> None:
        if "" in self.tokens:
            raise ValueError("a blank token is one that anybody can sign with")

    def verify_url(self, query: str, now: float) -> str:
        """The `echostr` to answer a GET with; in clear in all three modes. Raises Refused."""
        parameters = _parameters(query)
        self._verify(parameters, now)
        try:
            return parameters["echostr"]
        except KeyError:
            raise Refused("a parameter is missing") from None

    def open(self, query: str, body: bytes, now: float) -> Delivery:
        """The message of a POST, its signature checked before anything of it is believed. Raises Refused."""
        parameters = _parameters(query)
        try:
            if self.mode is Mode.PLAIN:
                token = self._verify(parameters, now)
                fields, crypto = parse(body), None
            else:
                fields, crypto, token = self._decrypt(parameters, body, now)
            return Delivery(read_message(fields), fields, parameters.get("signature", ""), crypto, token)
        except (MalformedXml, DecryptionFailed) as error:
            raise Refused(type(error).__name__) from error

    def time_off(self, query: str, now: float) -> float:
        """How far the time of a request that was refused is ahead of ours, in seconds; for the log alone.

        0 where the time is not why: else it is a replay, or a clock is wrong.
        """
        try:
            parameters = _parameters(query)
            self._require_signature(*(parameters[name] for name in ("signature", "timestamp", "nonce")))
            ahead = _ahead(parameters["timestamp"], now)
        except (Refused, KeyError):
            return 0.0
        return ahead if abs(ahead) > self.window else 0.0

    def seal(self, delivery: Delivery, reply: bytes, now: float, random: Callable[[int], bytes]) -> bytes:
        """`reply` as it goes over the wire: in clear in plain mode, encrypted and signed in the others.

        `success` and the empty body are in clear in every mode.
        """
        if delivery.crypto is None or reply in (b"", SUCCESS):
            return reply
        encrypted = delivery.crypto.encrypt(reply, random(16))
        timestamp, nonce = str(int(now)), random(8).hex()
        envelope: dict[str, Writable] = {
            "Encrypt": encrypted,
            "MsgSignature": sign(delivery.token, timestamp, nonce, encrypted),
            "TimeStamp": int(timestamp),
            "Nonce": nonce,
        }
        return write(envelope).encode("utf-8")

    def is_reply(self, delivery: Delivery, reply: bytes) -> bool:
        """Whether `reply`, as it would go over the wire, is one that WeChat takes for this delivery.

        It takes what is made with the token and the key that it used itself, also while they rotate.
        """
        try:
            fields = parse(reply)
            if delivery.crypto is not None and "Encrypt" in fields:
                names = ("TimeStamp", "Nonce", "Encrypt")
                timestamp, nonce, encrypted = (text_of(fields, name) for name in names)
                signature = text_of(fields, "MsgSignature")
                if not matches(signature, delivery.token, timestamp, nonce, encrypted):
                    return False
                fields = parse(delivery.crypto.decrypt(encrypted))
            elif self.mode is Mode.SAFE:
                return False
            to_the_person = text_of(fields, "ToUserName") == delivery.message.openid
            return to_the_person and bool(text_of(fields, "MsgType"))
        except (MalformedXml, DecryptionFailed):
            return False

    def _verify(self, parameters: dict[str, str], now: float) -> str:
        try:
            signature, timestamp, nonce = (parameters[name] for name in ("signature", "timestamp", "nonce"))
        except KeyError:
            raise Refused("a parameter is missing") from None
        token = self._require_signature(signature, timestamp, nonce)
        self._require_fresh(timestamp, now)
        return token

    def _decrypt(
        self, parameters: dict[str, str], body: bytes, now: float
    ) -> tuple[Fields, MessageCrypto, str]:
        try:
            signature, timestamp, nonce = (
                parameters[name] for name in ("msg_signature", "timestamp", "nonce")
            )
        except KeyError:
            raise Refused("a parameter is missing") from None
        if "signature" in parameters:  # WeChat sends both; the envelope is read only if the first one holds
            self._require_signature(parameters["signature"], timestamp, nonce)
        # The signature covers Encrypt, so the envelope has to be read first: by the strictest reader.
        # The clear fields that the compatible mode adds are covered by nothing and are not looked at.
        envelope = parse(body, max_depth=_ENVELOPE_DEPTH) if self.mode is Mode.SAFE else parse(body)
        if self.mode is Mode.SAFE and not envelope.keys() <= _ENVELOPE_FIELDS:
            raise Refused("clear fields beside Encrypt")
        encrypted = text_of(envelope, "Encrypt")
        token = self._require_signature(signature, timestamp, nonce, encrypted)
        self._require_fresh(timestamp, now)
        message, crypto = self._decrypted(encrypted)
        return parse(message), crypto, token

    def _decrypted(self, encrypted: str) -> tuple[bytes, MessageCrypto]:
        for crypto in self.cryptos:
            try:
                return crypto.decrypt(encrypted), crypto
            except DecryptionFailed:
                continue
        raise DecryptionFailed

    def _require_signature(self, signature: str, *parts: str) -> str:
        """The token that `signature` is made with."""
        fitting = [token for token in self.tokens if matches(signature, token, *parts)]
        if not fitting:
            raise Refused("signature")
        return fitting[0]

    def _require_fresh(self, timestamp: str, now: float) -> None:
        if abs(_ahead(timestamp, now)) > self.window:
            raise Refused("timestamp outside the window")


def _ahead(timestamp: str, now: float) -> float:
    """In seconds. Raises Refused for what is no time."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIME):
        raise Refused("no timestamp")
    return int(timestamp) - now


def _parameters(query: str) -> dict[str, str]:
    """The query's parameters; one that comes twice is a disguise and refused."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:  # UnicodeDecodeError among them
        raise Refused("no query") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise Refused("a parameter comes twice")
    return parameters
