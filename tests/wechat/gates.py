"""A gate with the platform's token and key, pushes for each mode, and what becomes of them."""

from urllib.parse import parse_qsl, urlencode

import pytest

from tests.wechat import platform
from wechat.callback import Gate, Mode, Refused
from wechat.crypto import MessageCrypto
from wechat.xml import parse, text_of

NOW = float(platform.NOW)
WINDOW = 300.0
ENCRYPTED_MODES = [Mode.SAFE, Mode.COMPATIBLE]


def gate(
    mode: Mode,
    tokens: tuple[str, ...] = (platform.TOKEN,),
    keys: tuple[str, ...] = (platform.KEY,),
    appid: str = platform.APPID,
) -> Gate:
    cryptos = () if mode is Mode.PLAIN else tuple(MessageCrypto(key, appid) for key in keys)
    return Gate(mode, tokens, cryptos, WINDOW)


def push(mode: Mode, message: bytes | None = None, **more: str) -> platform.Push:
    """A POST as the platform sends it in `mode`."""
    message = platform.scan() if message is None else message
    if mode is Mode.PLAIN:
        return platform.plain_push(message, **more)
    safe = platform.safe_push(message, **more)
    if mode is Mode.SAFE:
        return safe
    encrypted = text_of(parse(safe.body), "Encrypt")
    return platform.Push(safe.query, platform.compatible_envelope(encrypted, message))


def without(query: str, name: str) -> str:
    return urlencode([pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != name])


def with_value(query: str, name: str, value: str) -> str:
    return urlencode(dict(parse_qsl(query, keep_blank_values=True)) | {name: value}, errors="surrogatepass")


REASONS = {
    "signature",
    "timestamp outside the window",
    "no timestamp",
    "no query",
    "a parameter is missing",
    "a parameter comes twice",
    "clear fields beside Encrypt",
    "DecryptionFailed",
    "MalformedXml",
}


def refused(gate: Gate, query: str, body: bytes, now: float = NOW) -> None:
    with pytest.raises(Refused) as caught:
        gate.open(query, body, now)
    assert caught.type is Refused
    assert str(caught.value) in REASONS, "the log is told in words of ours"
