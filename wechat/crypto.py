"""AES of the safe and the compatible mode.

    key   = base64decode(EncodingAESKey + "=")          32 bytes
    plain = 16 random bytes | length, 4 bytes big endian | message | receive id (our appid)
    data  = plain + n bytes of value n, n = 32 - len(plain) % 32
    text  = base64(AES-256-CBC(key, iv = key[:16], data))

Source: "消息加解密说明", https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Message_encryption_and_decryption.html
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import Any

from Crypto.Cipher import AES

PAD_BLOCK = 32  # WeChat pads to 32 although AES has blocks of 16
RANDOM_BYTES = 16
LENGTH_BYTES = 4
_KEY = re.compile(r"[A-Za-z0-9+/]{43}\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")  # b64decode's own check passes over further "="


class DecryptionFailed(Exception):
    """One error for whatever is wrong with a ciphertext: no oracle tells which check failed."""


def decode_key(encoding_aes_key: str) -> bytes:
    """The 32 bytes of an EncodingAESKey of 43 characters. Raises ValueError.

    The 43rd character carries two bits that mean nothing; they may be set (three keys of four).
    """
    if not _KEY.match(encoding_aes_key):
        raise ValueError("an EncodingAESKey has 43 letters and digits")
    return base64.b64decode(encoding_aes_key + "=")


class MessageCrypto:
    """Encrypts and decrypts for one account with one key. Raises ValueError if either is unfit."""

    def __init__(self, encoding_aes_key: str, appid: str) -> None:
        if not appid:
            raise ValueError("an appid is needed to tell our messages from another account's")
        self._key = decode_key(encoding_aes_key)
        self._appid = appid.encode("utf-8")

    def encrypt(self, message: bytes, random: bytes) -> str:
        """The Base64 text for `message`; `random` are 16 fresh random bytes."""
        if len(random) != RANDOM_BYTES:
            raise ValueError(f"needs {RANDOM_BYTES} random bytes")
        plain = random + len(message).to_bytes(LENGTH_BYTES, "big") + message + self._appid
        pad = PAD_BLOCK - len(plain) % PAD_BLOCK
        data: bytes = self._cipher().encrypt(plain + bytes([pad]) * pad)
        return base64.b64encode(data).decode("ascii")

    def decrypt(self, text: str) -> bytes:
        """The message in `text`, which is UTF-8. Raises DecryptionFailed for every other input."""
        if not _BASE64.match(text):
            raise DecryptionFailed
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise DecryptionFailed from error
        if not data or len(data) % AES.block_size:
            raise DecryptionFailed
        plain: bytes = self._cipher().decrypt(data)
        pad = plain[-1]
        if not 1 <= pad <= PAD_BLOCK or len(plain) < pad or plain[-pad:] != bytes([pad]) * pad:
            raise DecryptionFailed
        plain = plain[:-pad]
        start = RANDOM_BYTES + LENGTH_BYTES
        end = start + int.from_bytes(plain[RANDOM_BYTES:start], "big")
        if len(plain) < start or end > len(plain):
            raise DecryptionFailed
        if not hmac.compare_digest(plain[end:], self._appid):
            raise DecryptionFailed
        message = plain[start:end]
        try:
            message.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecryptionFailed from error
        return message

    def _cipher(self) -> Any:  # pycryptodome's modes share no public type
        return AES.new(self._key, AES.MODE_CBC, iv=self._key[: AES.block_size])
