"""Signatures of WeChat's pushes.

Source: https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/message-push.html
"""

from __future__ import annotations

import hashlib
import hmac


def sign(*parts: str) -> str:
    """Lower-case hex SHA-1 of the parts, sorted by their bytes and joined with nothing between.

    `signature` covers (token, timestamp, nonce), `msg_signature` (token, timestamp, nonce, Encrypt).
    """
    joined = b"".join(sorted(part.encode("utf-8", "surrogatepass") for part in parts))
    return hashlib.sha1(joined, usedforsecurity=False).hexdigest()


def matches(signature: str, *parts: str) -> bool:
    """Whether `signature` is the parts' signature; takes the same time wherever it differs."""
    return hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), sign(*parts).encode("ascii"))
