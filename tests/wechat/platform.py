"""WeChat's side of the wire, written from the formulas of its documentation without a line of ours.

signature     = sha1(sorted(token, timestamp, nonce))
msg_signature = sha1(sorted(token, timestamp, nonce, Encrypt))
Encrypt       = base64(AES-256-CBC(key, key[:16], random16 | length | message | appid | padding to 32))
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import NamedTuple
from urllib.parse import urlencode

from Crypto.Cipher import AES

TOKEN = "saomaToken2026"
OTHER_TOKEN = "previousToken2025"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
OTHER_KEY = "GFEDCBA9876543210zyxwvutsrqponmlkjihgfedcba"
APPID = "wx2c2769f8efd9abc2"
ACCOUNT = "gh_0123456789ab"
OPENID = "oABCDEFGHIJKLMNOPQRSTUVWXYZ1"
NOW = 1_700_000_000
NONCE = "1320562132"
RANDOM = b"0123456789abcdef"


class Framed(NamedTuple):
    """What is inside a ciphertext."""

    random: bytes
    message: bytes
    appid: bytes


class Push(NamedTuple):
    """One POST as it arrives."""

    query: str
    body: bytes


def signature(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def frame(message: bytes, appid: str = APPID, random: bytes = RANDOM) -> bytes:
    return random + struct.pack(">I", len(message)) + message + appid.encode()


def padded(data: bytes) -> bytes:
    size = 32 - len(data) % 32
    return data + bytes([size]) * size


def encrypt(data: bytes, key: str = KEY) -> str:
    """Base64 of the AES of `data` as it is: the frame and the padding are the caller's."""
    raw = base64.b64decode(key + "=")
    return base64.b64encode(AES.new(raw, AES.MODE_CBC, raw[:16]).encrypt(data)).decode()


def open_frame(encrypted: str, key: str = KEY) -> Framed:
    raw = base64.b64decode(key + "=")
    data = AES.new(raw, AES.MODE_CBC, raw[:16]).decrypt(base64.b64decode(encrypted))
    size = data[-1]
    assert len(data) % 32 == 0, "WeChat's blocks have 32 bytes"
    assert 1 <= size <= 32
    assert data[-size:] == bytes([size]) * size
    data = data[:-size]
    (length,) = struct.unpack(">I", data[16:20])
    return Framed(data[:16], data[20 : 20 + length], data[20 + length :])


def scan(openid: str = OPENID, scene: str = "scene-1", created_at: int = NOW) -> bytes:
    return (
        f"<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><FromUserName><![CDATA[{openid}]]></FromUserName>"
        f"<CreateTime>{created_at}</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        f"<Event><![CDATA[SCAN]]></Event><EventKey><![CDATA[{scene}]]></EventKey>"
        "<Ticket><![CDATA[gQH-ticket]]></Ticket></xml>"
    ).encode()


def query(token: str = TOKEN, timestamp: str = str(NOW), nonce: str = NONCE, **more: str) -> str:
    """A signed query; `more` is added as it is."""
    signed = {"signature": signature(token, timestamp, nonce), "timestamp": timestamp, "nonce": nonce}
    return urlencode(signed | more)


def plain_push(
    body: bytes | None = None, token: str = TOKEN, timestamp: str = str(NOW), nonce: str = NONCE, **more: str
) -> Push:
    return Push(query(token, timestamp, nonce, openid=OPENID, **more), scan() if body is None else body)


def envelope(encrypted: str) -> bytes:
    return (
        f"<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"
    ).encode()


def compatible_envelope(encrypted: str, clear: bytes) -> bytes:
    """The clear message with the encrypted one added, as the compatible mode sends it."""
    return clear.removesuffix(b"</xml>") + f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>".encode()


def encrypted_push(
    encrypted: str,
    body: bytes | None = None,
    /,
    token: str = TOKEN,
    timestamp: str = str(NOW),
    nonce: str = NONCE,
    **more: str,
) -> Push:
    """A POST with any `Encrypt`, rightly signed."""
    more = {"openid": OPENID, "encrypt_type": "aes"} | more
    more = {"msg_signature": signature(token, timestamp, nonce, encrypted)} | more
    return Push(query(token, timestamp, nonce, **more), envelope(encrypted) if body is None else body)


def safe_push(message: bytes | None = None, token: str = TOKEN, key: str = KEY, **more: str) -> Push:
    encrypted = encrypt(padded(frame(scan() if message is None else message)), key)
    return encrypted_push(encrypted, token=token, **more)
