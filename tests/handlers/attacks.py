"""Pushes that are not WeChat's; each would log somebody in if it passed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from emulator import Push
from emulator.phone import subscribe_fields
from tests.harness import Whole
from tests.wechat import platform as wechat
from wechat.callback import Mode

PERSON = "oForgedPersonForgedPerson001"
NESTED = 200_000


@dataclass(frozen=True)
class Attack:
    query: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/xml"})

    def http(self, host: str, *, chunked: bool = False) -> bytes:
        size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}"
        lines = [f"POST /wechat/callback?{self.query} HTTP/1.1", f"Host: {host}", size]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head + (in_chunks(self.body) if chunked else self.body)


def in_chunks(body: bytes, size: int = 60_000) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def aimed(whole: Whole, ticket_id: str) -> Push:
    """A push as WeChat would send it, for a person who is not there yet."""
    ticket = await whole.ticket(ticket_id)
    assert ticket is not None
    code = whole.emulator.platform.find_code(ticket.code)
    assert code is not None
    whole.emulator.platform.add_person("仿", openid=PERSON, following=True)
    return whole.emulator.courier.build(PERSON, subscribe_fields(code))


def attacks(whole: Whole, push: Push) -> Iterator[tuple[str, Attack]]:
    """By name; `push` is the honest one that they are made of."""
    account = whole.emulator.platform.account
    split = urlsplit(push.url)
    parameters = {name: values[0] for name, values in parse_qs(split.query).items()}
    signed_by = "signature" if account.mode is Mode.PLAIN else "msg_signature"
    clear = push.clear_xml.encode()

    def changed(**more: str) -> Attack:
        return Attack(urlencode({**parameters, **more}), push.body)

    # The query.
    yield "no query", Attack("", push.body)
    for name in {signed_by, "timestamp", "nonce"}:
        rest = {known: value for known, value in parameters.items() if known != name}
        yield f"{name} missing", Attack(urlencode(rest), push.body)
        yield f"{name} empty", changed(**{name: ""})
        yield f"{name} wrong", changed(**{name: parameters[name][:-1] + "x"})
        yield f"{name} twice", Attack(f"{split.query}&{name}={parameters[name]}", push.body)
        yield f"{name} as a list", Attack(urlencode({**rest, f"{name}[]": parameters[name]}), push.body)
        yield (
            f"{name} in other letters",
            Attack(urlencode({**rest, name.upper(): parameters[name]}), push.body),
        )
        yield f"{name} not UTF-8", Attack(f"{urlencode(rest)}&{name}=%ff%fe", push.body)
        yield f"{name} not ASCII", changed(**{name: "签名"})
    yield "signature in capitals", changed(**{signed_by: parameters[signed_by].upper()})
    yield "huge query", Attack(f"{split.query}&filler={'a' * 8000}&nonce={'1' * 100}", push.body)
    yield "many parameters", Attack(split.query + "&a=1" * 500, push.body)
    for seconds in (-301, 330, -86_400 * 365):
        yield f"stale by {seconds} s", _signed(whole, clear, int(parameters["timestamp"]) + seconds)
    for odd in ("-1", "1e9", "0x10", "١٢٣", "9" * 400):
        yield f"timestamp {odd[:8]}", _signed(whole, clear, odd)
    yield "another token", _signed(whole, clear, parameters["timestamp"], token="WrongToken1")
    yield "a blank token", _signed(whole, clear, parameters["timestamp"], token="")

    # The body.
    yield "empty body", Attack(split.query, b"")
    yield "truncated", Attack(split.query, push.body[: len(push.body) // 2])
    yield "one byte short", Attack(split.query, push.body[:-1])
    yield "not UTF-8", Attack(split.query, push.body.replace(b"gh_", b"\xff\xfe_"))
    yield "UTF-16", Attack(split.query, push.body.decode().encode("utf-16"))
    yield "JSON", Attack(split.query, json.dumps({"Encrypt": "x", "MsgType": "event"}).encode())
    yield "two documents", Attack(split.query, push.body * 2)
    doctype = b'<!DOCTYPE xml [<!ENTITY a "b">]>'
    yield "DOCTYPE", Attack(split.query, doctype + push.body)
    outside = b'<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    yield "outside entity", Attack(split.query, outside + push.body.replace(b"gh_", b"&a;_"))
    yield "deep", Attack(split.query, b"<xml>" + b"<a>" * NESTED + b"</a>" * NESTED + b"</xml>")
    yield "deep and short", Attack(split.query, b"<xml>" + b"<a>" * 9000 + b"</a>" * 9000 + b"</xml>")
    padding = 64 * 1024 + 1 - len(push.body)
    yield "a byte too long", Attack(split.query, push.body + b" " * padding)
    yield "10 MB", Attack(split.query, push.body.replace(b"<xml>", b"<xml>" + b" " * 10_000_000))
    for junk in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "application/json",
        "\x80;;=",
        "x" * 999,
    ):
        broken = push.body.replace(b"</xml>", b"")
        yield f"broken, sent as {junk[:30]!a}", Attack(split.query, broken, {"Content-Type": junk})

    if account.mode is Mode.PLAIN:
        encrypted = wechat.encrypt(wechat.padded(wechat.frame(clear, account.appid)), wechat.KEY)
        yield "encrypted in plain mode", Attack(split.query, wechat.envelope(encrypted))
        yield (
            "no sender",
            _signed(whole, re.sub(rb"<FromUserName>.*</FromUserName>", b"", clear), parameters["timestamp"]),
        )
        yield (
            "no time",
            _signed(whole, re.sub(rb"<CreateTime>.*</CreateTime>", b"", clear), parameters["timestamp"]),
        )
        return

    # Rightly signed, and wrong inside.
    frame, key = wechat.frame(clear, account.appid), account.encoding_aes_key
    inside = {
        "wrong appid": wechat.padded(wechat.frame(clear, "wx0000000000000000")),
        "no appid": wechat.padded(wechat.frame(clear, "")),
        "no padding": frame + b"A" * (-len(frame) % 16),
        "one byte of the padding wrong": wechat.padded(frame + b"x" * (-len(frame) % 32 + 28))[:-2]
        + b"\x09\x04",
        "padding of 0": frame + b"\0" * (-len(frame) % 16 or 16),
        "padding of 33": (frame + b"!" * 33 + b"!" * (-(len(frame) + 33) % 16))[
            : (len(frame) + 33) // 16 * 16
        ],
        "a length beyond the end": wechat.padded(
            wechat.RANDOM + b"\xff\xff\xff\xff" + clear + account.appid.encode()
        ),
        "a length too short": wechat.padded(wechat.RANDOM + b"\0\0\0\1" + clear + account.appid.encode()),
        "not UTF-8 inside": wechat.padded(wechat.frame(clear.replace(b"gh_", b"\xff\xfe_"), account.appid)),
        "DOCTYPE inside": wechat.padded(wechat.frame(doctype + clear, account.appid)),
        "deep inside": wechat.padded(wechat.frame(b"<xml>" + b"<a>" * 5000 + clear, account.appid)),
        "nothing inside": wechat.padded(wechat.frame(b"", account.appid)),
        "no XML inside": wechat.padded(wechat.frame(b"hello", account.appid)),
    }
    for name, data in inside.items():
        yield name, _sealed(whole, wechat.encrypt(data, key))
    yield "another key", _sealed(whole, wechat.encrypt(wechat.padded(frame), wechat.KEY))
    honest = wechat.encrypt(wechat.padded(frame), key)
    yield "no whole block", _sealed(whole, honest[:-8])
    yield "no Base64", _sealed(whole, "!" + honest[1:])
    yield "empty Encrypt", _sealed(whole, "")
    yield "in clear", Attack(split.query, clear)
    rest = {name: parameters[name] for name in ("signature", "timestamp", "nonce", "openid")}
    yield "in clear, and the query as in plain mode", Attack(urlencode(rest), clear)
    yield "in clear, encrypt_type raw", Attack(urlencode({**rest, "encrypt_type": "raw"}), clear)
    if account.mode is Mode.SAFE:
        both = wechat.compatible_envelope(honest, clear)
        yield "clear fields beside Encrypt", _sealed(whole, honest, both)


def _signed(whole: Whole, clear: bytes, timestamp: object, token: str | None = None) -> Attack:
    """`clear`, sealed as the mode wants it, signed for this time with this token."""
    account = whole.emulator.platform.account
    token = account.token if token is None else token
    if account.mode is Mode.PLAIN:
        return Attack(wechat.query(token, str(timestamp)), clear)
    data = wechat.padded(wechat.frame(clear, account.appid))
    encrypted = wechat.encrypt(data, account.encoding_aes_key)
    return Attack(*wechat.encrypted_push(encrypted, token=token, timestamp=str(timestamp)))


def _sealed(whole: Whole, encrypted: str, body: bytes | None = None) -> Attack:
    """Any `Encrypt`, rightly signed for now."""
    now, token = str(int(whole.clock())), whole.emulator.platform.account.token
    return Attack(*wechat.encrypted_push(encrypted, body, token=token, timestamp=now))
