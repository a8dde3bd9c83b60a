"""One function for each parser of what strangers send: any bytes in, and what must hold whatever they are.

Each returns whether the input was taken, so that `test_corpus.py` can see that a corpus gets past the door,
and raises AssertionError, or whatever the parser let out, where a promise is broken. What a signature or a
MAC guards is signed here, or nothing behind it would ever be reached. `second.py` has other people's parsers.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urljoin, urlsplit

from standardwebhooks import Webhook, WebhookVerificationError
from tornado.httputil import HTTPHeaders, parse_cookie

from app.token import LEEWAY, MAX_LIFETIME, MAX_SUBJECT, Policy, TokenRefused, import_key, key_id, verify
from errors import BadRequest
from flows import cursors, redirects
from flows.limits import address_key
from handlers.cookies import MAX_SESSIONS, CookieNames, session_values
from handlers.device import names_of
from handlers.peers import Peers
from oidc import requests
from oidc.errors import Unredirectable
from tests.app.keys import AUDIENCE, ISSUER, SECRET, Backend, encoded
from tests.flows.world import CATALOGUES
from tests.order.walks import BLANK
from tests.wechat import platform
from tests.wechat.gates import NOW, WINDOW, gate
from webhooks import signed_headers
from wechat.callback import Delivery, Gate, Mode, Refused
from wechat.crypto import DecryptionFailed, MessageCrypto
from wechat.messages import read_message
from wechat.replies import text_reply
from wechat.xml import MalformedXml, parse, text_of, write

MODES = (Mode.SAFE, Mode.COMPATIBLE, Mode.PLAIN)
GATES = {mode: gate(mode) for mode in MODES}
CRYPTO = MessageCrypto(platform.KEY, platform.APPID)
NONCE = bytes(16)

ORIGIN = "https://login.example.com"
OTHER_ORIGINS = frozenset({"https://shop.example", "http://127.0.0.1:8000"})


# --- What WeChat posts.


def xml(data: bytes) -> bool:
    try:
        fields = parse(data)
    except MalformedXml:
        return False
    assert parse(write(fields).encode()) == _without_blanks(fields)
    return True


def _without_blanks(value: Any) -> Any:
    """What remains of a tree once it was written: an element without children or text is one of text."""
    if isinstance(value, dict):
        return {name: _without_blanks(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value]
    return value.replace("\r\n", "\n").replace("\r", "\n").strip()


def envelope(data: bytes) -> bool:
    """As Base64, as what is in the cipher, and as a message."""
    with suppress(DecryptionFailed):
        CRYPTO.decrypt(data.decode("latin-1"))
    whole_blocks = data + bytes(-len(data) % 16 or 16 * (not data))
    assert _decrypted(platform.encrypt(whole_blocks)) == _inside(whole_blocks)
    padded = platform.padded(data)
    assert _decrypted(platform.encrypt(padded)) == _inside(padded)
    sealed = CRYPTO.encrypt(data, NONCE)
    assert platform.open_frame(sealed) == (NONCE, data, platform.APPID.encode())
    assert _decrypted(sealed) == (data if _is_utf8(data) else None)
    return _inside(padded) is not None


def _decrypted(text: str) -> bytes | None:
    try:
        return CRYPTO.decrypt(text)
    except DecryptionFailed:
        return None


def _inside(plain: bytes) -> bytes | None:
    """The message in a frame, read from the formula in the slowest way; None where anything is odd."""
    count = plain[-1]
    if count not in range(1, 33) or not plain.endswith(bytes([count]) * count):
        return None
    rest = plain[: len(plain) - count]
    length = int.from_bytes(rest[16:20], "big")
    message = rest[20 : 20 + length]
    whole = len(rest) >= 20 and rest[20 + length :] == platform.APPID.encode()
    return message if whole and len(message) == length and _is_utf8(message) else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def callback_request(data: bytes) -> bool:
    """Query, line feed, body, as anybody may send them; taken only what bears a fresh signature."""
    line, _, body = data.partition(b"\n")
    query = line.decode("latin-1")
    taken = False
    for mode in MODES:
        with suppress(Refused):
            signed: tuple[str, ...] = ()
            delivery = GATES[mode].open(query, body, NOW)
            if mode is not Mode.PLAIN:
                signed = (text_of(parse(body), "Encrypt"),)
            _require_signature(query, "signature" if mode is Mode.PLAIN else "msg_signature", *signed)
            _holds(GATES[mode], delivery)
            taken = True
        with suppress(Refused):
            echo = GATES[mode].verify_url(query, NOW)
            assert dict(parse_qsl(query, keep_blank_values=True))["echostr"] == echo
            _require_signature(query, "signature")
            taken = True
    return taken


def _require_signature(query: str, name: str, *signed: str) -> None:
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    assert len(given) == len(pairs)
    parts = (platform.TOKEN, given["timestamp"], given["nonce"], *signed)
    assert given[name] == platform.signature(*parts)
    assert abs(int(given["timestamp"]) - NOW) <= WINDOW


def _holds(opened_by: Gate, delivery: Delivery) -> None:
    """What must be true of every delivery that is taken."""
    message = delivery.message
    assert message == read_message(delivery.fields)
    assert 1 <= len(message.openid) <= 128
    assert message.openid.isprintable()
    assert re.fullmatch("[0-9a-f]{64}", message.delivery_key)
    reply = text_reply(message, "扫码 ]]> <b>", NOW)
    sealed = opened_by.seal(delivery, reply, NOW, bytes)
    assert opened_by.is_reply(delivery, sealed), "our own reply would not be taken"


def callback_message(data: bytes) -> bool:
    """The first byte chooses the mode; the rest is the message, the Encrypt or the body, rightly signed."""
    mode = MODES[data[0] % 3] if data else Mode.SAFE
    rest = data[1:]
    try:
        message = read_message(parse(rest))
    except MalformedXml:
        message = None
    pushes = [platform.plain_push(rest)]
    if mode is not Mode.PLAIN:
        encrypted = platform.encrypt(platform.padded(platform.frame(rest)))
        pushes = [platform.encrypted_push(encrypted)]
        if b"\0" not in rest and _is_utf8(rest):
            text = rest.decode()
            pushes.append(platform.encrypted_push(text))  # whatever is in it
            pushes.append(platform.encrypted_push(encrypted, platform.compatible_envelope(encrypted, rest)))
    taken = False
    for number, push in enumerate(pushes):
        try:
            delivery = GATES[mode].open(push.query, push.body, NOW)
        except Refused:
            assert number or message is None, "a message that can be read was refused"
            continue
        assert number == 1 or delivery.message == message
        _holds(GATES[mode], delivery)
        taken = True
    return taken


def _delivery(mode: Mode) -> Delivery:
    push = platform.plain_push() if mode is Mode.PLAIN else platform.safe_push()
    return GATES[mode].open(push.query, push.body, NOW)


DELIVERIES = {mode: _delivery(mode) for mode in MODES}


def reply(data: bytes) -> bool:
    """What a backend answers; the first byte chooses mode and whether it is sealed."""
    mode = MODES[data[0] % 3] if data else Mode.SAFE
    rest = data[1:]
    if data and data[0] >= 128 and mode is not Mode.PLAIN:
        encrypted = platform.encrypt(platform.padded(platform.frame(rest)))
        stamp, nonce = str(platform.NOW), platform.NONCE
        sealed: dict[str, Any] = {
            "Encrypt": encrypted,
            "MsgSignature": platform.signature(platform.TOKEN, stamp, nonce, encrypted),
            "TimeStamp": stamp,
            "Nonce": nonce,
        }
        taken = GATES[mode].is_reply(DELIVERIES[mode], write(sealed).encode())
        inside = rest
    else:
        taken = GATES[mode].is_reply(DELIVERIES[mode], rest)
        if taken and mode is Mode.SAFE:
            encrypted = text_of(parse(rest), "Encrypt")
            inside = platform.open_frame(encrypted).message
        else:
            inside = rest
    if taken and b"<Encrypt>" not in inside:
        assert text_of(parse(inside), "ToUserName") == platform.OPENID
    return taken


# --- What apps and browsers send.

POLICY = Policy(ISSUER, AUDIENCE, frozenset({"HS256"}))
KEY = import_key(SECRET)
BACKEND = Backend("HS256", SECRET.encode())


def token(data: bytes) -> bool:
    """As a token, and as header, line feed, payload of one that is rightly signed."""
    _verified(data.decode("latin-1"))
    header, _, payload = data.partition(b"\n")
    signing = f"{encoded(header)}.{encoded(payload)}"
    if not _verified(f"{signing}.{encoded(BACKEND.signature(signing.encode()))}"):
        return False
    told, head = json.loads(payload), json.loads(header)
    assert head["alg"] == "HS256"
    assert not {"crit", "b64"} & head.keys()
    assert told["iss"] == ISSUER
    assert told["aud"] in (AUDIENCE, [AUDIENCE])
    assert isinstance(told["sub"], str)
    assert 1 <= len(told["sub"]) <= MAX_SUBJECT
    assert NOW - LEEWAY - 1 <= told["exp"] <= NOW + MAX_LIFETIME + LEEWAY
    assert told["iat"] <= NOW + LEEWAY
    return True


def _verified(text: str) -> bool:
    kid = key_id(text)
    assert kid is None or isinstance(kid, str)
    try:
        claims = verify(text, KEY, POLICY, NOW)
    except TokenRefused:
        return False
    assert claims.subject.isprintable()
    assert len(claims.name) <= 64
    return True


NAMES = CookieNames(secure=True)


def cookies(data: bytes) -> bool:
    headers = data.decode("latin-1").split("\n")
    values = session_values(headers, NAMES.session)
    assert len(values) == len(set(values)) <= MAX_SESSIONS
    written = re.findall(rf"(?:^|;)\s*{NAMES.session}=([^;\n]+)", "\n".join(headers), re.MULTILINE)
    assert {value.strip() for value in values} <= {value.strip() for value in written}
    known = NAMES.ticket_ids(parse_cookie(";".join(headers)))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", ticket_id) for ticket_id in known)
    return bool(values or known)


def redirect(data: bytes) -> bool:
    """Where a browser may be sent: whatever is allowed leads to one of the origins, by any reading."""
    target = data.decode("utf-8", "surrogateescape")
    if not redirects.allowed(target, OTHER_ORIGINS):
        return False
    assert redirects.checked(target, OTHER_ORIGINS) == target
    parts = urlsplit(urljoin(ORIGIN + "/login", target))
    assert f"{parts.scheme}://{parts.netloc}".lower() in OTHER_ORIGINS | {ORIGIN}
    assert target.isascii() or target.encode()  # can be written into an answer
    assert not re.search(r"[\x00-\x20\x7f\\]", target)
    return True


CONTEXT = replace(BLANK, mac=lambda purpose, value: sha256(f"{purpose} {value}".encode()).hexdigest())


def cursor(data: bytes) -> bool:
    """As a cursor comes back, and with our MAC after it."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BadRequest):
        assert cursors.opened(CONTEXT, "people", text) == ""
    if not _is_utf8(data):
        return False
    sealed = cursors.sealed(CONTEXT, "people", text)
    with suppress(BadRequest):
        assert sealed == "" or cursors.opened(CONTEXT, "logins", sealed) is None, "another list's"
    try:
        opened = cursors.opened(CONTEXT, "people", sealed)
    except BadRequest:
        assert len(sealed) > cursors.MAX_LENGTH
        return False
    assert opened == text
    return True


@dataclass(frozen=True)
class Client:
    id: str
    redirect_uris: Sequence[str]
    scopes: Sequence[str] = requests.SCOPES


CLIENTS = (
    Client("shop", ("https://shop.example/back", "https://shop.example/back?to=1")),
    Client("forum", ("http://127.0.0.1:8000/cb",), ("openid",)),
)


def authorization_request(data: bytes) -> bool:
    query = data.decode("latin-1")
    try:
        values = requests.parse_query(query)
        asked = requests.parse(values, CLIENTS)
    except Unredirectable:
        return False
    except requests.Refused as refused:
        _require_round_trip(refused.redirect_uri, refused.state)
        return False
    client = next(client for client in CLIENTS if client.id == asked.site)
    assert asked.redirect_uri in client.redirect_uris
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", asked.code_challenge)
    assert set(asked.scope.split()) <= set(client.scopes)
    assert parse_qs(query)["state"] == [asked.state]
    _require_round_trip(asked.redirect_uri, asked.state)
    return True


def _require_round_trip(redirect_uri: str, state: str) -> None:
    assert any(redirect_uri in client.redirect_uris for client in CLIENTS)
    answer = requests.answer(redirect_uri, code="c", state=state)
    assert answer.startswith(redirect_uri)
    assert re.fullmatch(r"[!-~]+", answer), "goes into a header"
    assert parse_qs(urlsplit(answer).query).get("state", [""]) == [state]


TRUSTED = Peers(["127.0.0.0/8", "::1/128", "192.0.2.0/24"])


def forwarded_for(data: bytes) -> bool:
    """Lines of X-Forwarded-For, from a proxy of ours."""
    headers = HTTPHeaders()
    for line in data.decode("latin-1").split("\n"):
        if re.fullmatch(r"[\t -~\x80-\xff]*", line):
            headers.add("X-Forwarded-For", line.strip(" \t"))
    request: Any = SimpleNamespace(remote_ip="127.0.0.1", headers=headers)
    address = TRUSTED.address_of(request)
    assert str(ipaddress.ip_address(address)) == address
    assert address_key(address)
    return address != "127.0.0.1"


LANGUAGES = {texts.language for texts in (CATALOGUES.of("zh-CN"), CATALOGUES.of("en"))}


def language(data: bytes) -> bool:
    """`?lang=`, line feed, Accept-Language; both as User-Agent, too."""
    asked, _, accepted = data.decode("latin-1").partition("\n")
    texts = CATALOGUES.choose(asked, accepted)
    assert texts.language in LANGUAGES
    for agent in (asked, accepted):
        assert all(name.replace(" ", "").isalnum() or name == "" for name in names_of(agent))
        address_key(agent)
    return texts.language == "en"


WEBHOOK_SECRETS = tuple("whsec_" + base64.b64encode(key * 24).decode() for key in (b"a", b"b"))


def webhook(data: bytes) -> bool:
    """A message with these bytes as its text; the first byte says which one is changed on its way."""
    body = json.dumps({"type": data.decode("latin-1")}).encode()
    headers = signed_headers("msg_1", int(time.time()), body, WEBHOOK_SECRETS)
    for secret in WEBHOOK_SECRETS:
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    place = data[0] % len(body) if data else 0
    changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    try:
        Webhook(WEBHOOK_SECRETS[0]).verify(changed, headers)
    except WebhookVerificationError:
        return True
    raise AssertionError("a changed message was verified")


TARGETS: dict[str, Callable[[bytes], bool]] = {
    target.__name__: target
    for target in (
        xml,
        envelope,
        callback_request,
        callback_message,
        reply,
        token,
        cookies,
        redirect,
        cursor,
        authorization_request,
        forwarded_for,
        language,
        webhook,
    )
}
