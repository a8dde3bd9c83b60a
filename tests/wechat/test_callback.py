import base64
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import platform, vectors
from wechat.callback import Delivery, Gate, Mode, Refused
from wechat.crypto import MessageCrypto
from wechat.messages import Action, read_message
from wechat.replies import text_reply
from wechat.signature import matches
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


def refused(gate: Gate, query: str, body: bytes, now: float = NOW) -> None:
    with pytest.raises(Refused) as caught:
        gate.open(query, body, now)
    assert caught.type is Refused
    assert str(caught.value) == "", "which check failed is told to nobody"


# --- The vectors ---


def query_of(inputs: dict[str, Any]) -> str:
    names = ("signature", "timestamp", "nonce", "openid", "encrypt_type", "msg_signature", "echostr")
    return urlencode({name: inputs[name] for name in names if name in inputs})


def mode_of(vector: vectors.Vector) -> Mode:
    """The vector's own mode; where its source names none, the one that its body has the shape of."""
    if "mode" in vector.inputs:
        return Mode(vector.inputs["mode"])
    in_clear = "FromUserName" in parse(vector.inputs["body"].encode())
    return Mode.COMPATIBLE if in_clear else Mode.SAFE


def gate_of(vector: vectors.Vector) -> Gate:
    inputs = vector.inputs
    crypto = MessageCrypto(inputs["encodingAESKey"], inputs["appid"])
    return Gate(mode_of(vector), (inputs["token"],), (crypto,), WINDOW)


@vectors.each("url_verify_plain")
@pytest.mark.parametrize("mode", Mode)
def test_answers_the_check_of_the_url(mode: Mode, vector: vectors.Vector) -> None:
    inputs = vector.inputs
    answer = gate(mode, (inputs["token"],)).verify_url(query_of(inputs), float(inputs["timestamp"]))
    assert answer == vector.expected["response_body"]


@vectors.each("bad_url_verify_plain")
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_bad_check_of_the_url(mode: Mode, vector: vectors.Vector) -> None:
    inputs = vector.inputs
    with pytest.raises(Refused):
        gate(mode, (inputs["token"],)).verify_url(query_of(inputs), float(inputs["timestamp"]))


# Samples that are no pushes; test_crypto.py decrypts them.
CRYPTO_ONLY = {
    "conetse-reply-roundtrip": "a reply's envelope, around text that is not well-formed",
    "wego-reply-1": "a reply's envelope, around a message with an empty MsgType",
    "wego-reply-2": "a reply's envelope, padded to 16",
}


@vectors.each("aes_decrypt", only=lambda vector: vector.id not in CRYPTO_ONLY)
def test_opens_an_encrypted_push(vector: vectors.Vector) -> None:
    inputs = vector.inputs
    delivery = gate_of(vector).open(query_of(inputs), inputs["body"].encode(), float(inputs["timestamp"]))
    fields = parse(vector.expected["plaintext"].encode())
    assert delivery.fields == fields
    assert delivery.message == read_message(fields)
    assert delivery.signature == inputs.get("signature", "")
    for name, value in vector.expected.get("fields", {}).items():
        assert delivery.fields[name] == value


@pytest.mark.parametrize("identifier", CRYPTO_ONLY)
def test_what_is_no_push_is_refused(identifier: str) -> None:
    vector = vectors.named(identifier)
    refused(
        gate_of(vector),
        query_of(vector.inputs),
        vector.inputs["body"].encode(),
        float(vector.inputs["timestamp"]),
    )


@vectors.each(
    "bad_signature", "bad_base64", "bad_truncated", "bad_padding", "bad_length", "bad_utf8", "bad_appid"
)
def test_refuses_a_bad_push(vector: vectors.Vector) -> None:
    inputs = vector.inputs
    encrypted = text_of(parse(inputs["body"].encode()), "Encrypt")
    signed = matches(
        inputs["msg_signature"], inputs["token"], inputs["timestamp"], inputs["nonce"], encrypted
    )
    assert signed == (vector.kind != "bad_signature"), "refused for what it is a sample of"
    for mode in {mode_of(vector), Mode.COMPATIBLE}:
        crypto = MessageCrypto(inputs["encodingAESKey"], inputs["appid"])
        refused(
            Gate(mode, (inputs["token"],), (crypto,), WINDOW),
            query_of(inputs),
            inputs["body"].encode(),
            float(inputs["timestamp"]),
        )


@vectors.each("bad_key")
def test_no_gate_can_be_made_with_a_bad_key(vector: vectors.Vector) -> None:
    with pytest.raises(ValueError, match="EncodingAESKey"):
        gate_of(vector)


@vectors.each("policy", only=lambda vector: "config" in vector.inputs)
def test_refuses_what_the_configured_mode_does_not_allow(vector: vectors.Vector) -> None:
    config, query = vector.inputs["config"], vector.inputs["query"]
    mode = Mode(config["mode"])
    cryptos = () if mode is Mode.PLAIN else (MessageCrypto(config["encodingAESKey"], config["appid"]),)
    now = float(query.get("timestamp", "1458300676"))
    refused(
        Gate(mode, (config["token"],), cryptos, WINDOW), urlencode(query), vector.inputs["body"].encode(), now
    )


@vectors.each("xml_message")
@pytest.mark.parametrize("mode", Mode)
def test_opens_every_message_in_every_mode(mode: Mode, vector: vectors.Vector) -> None:
    body = vector.inputs["xml"].encode()
    if mode is Mode.COMPATIBLE:  # the clear part stands for any other text
        sent = push(mode, body).query, push(Mode.SAFE, body).body
    else:
        sent = push(mode, body)
    assert gate(mode).open(*sent, NOW).fields == vector.expected["fields"]


@vectors.each("xml_attack")
def test_refuses_an_attack_wherever_it_is_put(vector: vectors.Vector) -> None:
    body = vector.inputs["xml"].encode()
    refused(gate(Mode.PLAIN), *platform.plain_push(body))
    for mode in ENCRYPTED_MODES:
        refused(gate(mode), push(mode).query, body)
        refused(gate(mode), *platform.safe_push(body))


@vectors.each("signature_property")
def test_a_moved_separator_makes_no_signature_fresh(vector: vectors.Vector) -> None:
    token, one, other = (vector.inputs[name] for name in ("token", "a", "b"))
    now = float(one["timestamp"])
    plain = gate(Mode.PLAIN, (token,))
    assert plain.open(*platform.plain_push(token=token, **one), now)
    refused(plain, *platform.plain_push(token=token, **other), now)


# --- The signature ---


@pytest.mark.parametrize("mode", Mode)
def test_opens_a_push(mode: Mode) -> None:
    delivery = gate(mode).open(*push(mode), NOW)
    assert delivery.message.openid == platform.OPENID
    assert delivery.message.action is Action.SCAN
    assert delivery.message.scene == "scene-1"
    assert delivery.signature == platform.signature(platform.TOKEN, str(platform.NOW), platform.NONCE)
    assert (delivery.crypto is None) == (mode is Mode.PLAIN)


@pytest.mark.parametrize("mode", Mode)
def test_refuses_every_changed_digit_of_a_signature(mode: Mode) -> None:
    sent = push(mode)
    covering = "signature" if mode is Mode.PLAIN else "msg_signature"
    for name in {"signature", covering}:
        right = dict(parse_qsl(sent.query))[name]
        for at in range(40):
            wrong = right[:at] + ("0" if right[at] != "0" else "1") + right[at + 1 :]
            refused(gate(mode), with_value(sent.query, name, wrong), sent.body)


ODD = ["", "0", "签名", "é", "\ud800", "１２", "%00", "\0", "a" * 100_000]


@pytest.mark.parametrize("value", ODD, ids=ascii)
@pytest.mark.parametrize("name", ["signature", "msg_signature", "timestamp", "nonce"])
@pytest.mark.parametrize("mode", Mode)
def test_refuses_odd_values(mode: Mode, name: str, value: str) -> None:
    if mode is Mode.PLAIN and name == "msg_signature":
        return  # not looked at
    sent = push(mode)
    refused(gate(mode), with_value(sent.query, name, value), sent.body)
    with pytest.raises(Refused):
        gate(mode).verify_url(with_value(platform.query(echostr="e"), name.removeprefix("msg_"), value), NOW)


@pytest.mark.parametrize("nonce", ["签名", "é", "a b", "a&b=c", "+", "%2B", "", "\U0001f600"])
@pytest.mark.parametrize("mode", Mode)
def test_takes_any_nonce_that_is_signed(mode: Mode, nonce: str) -> None:
    assert gate(mode).open(*push(mode, nonce=nonce), NOW)
    assert gate(mode).verify_url(platform.query(nonce=nonce, echostr="e"), NOW) == "e"


@pytest.mark.parametrize("name", ["signature", "timestamp", "nonce", "echostr"])
def test_the_check_of_the_url_needs_all_its_keys(name: str) -> None:
    query = platform.query(echostr="e")
    assert gate(Mode.SAFE).verify_url(query, NOW) == "e"
    with pytest.raises(Refused):
        gate(Mode.SAFE).verify_url(without(query, name), NOW)


@pytest.mark.parametrize("name", ["signature", "timestamp", "nonce"])
def test_a_plain_push_needs_all_its_keys(name: str) -> None:
    sent = push(Mode.PLAIN)
    refused(gate(Mode.PLAIN), without(sent.query, name), sent.body)


@pytest.mark.parametrize("name", ["msg_signature", "timestamp", "nonce"])
@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_an_encrypted_push_needs_all_its_keys(mode: Mode, name: str) -> None:
    sent = push(mode)
    refused(gate(mode), without(sent.query, name), sent.body)


@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_the_second_signature_is_not_needed_but_not_ignored(mode: Mode) -> None:
    sent = push(mode)
    assert gate(mode).open(without(sent.query, "signature"), sent.body, NOW)
    refused(gate(mode), with_value(sent.query, "signature", "0" * 40), sent.body)


@pytest.mark.parametrize(
    "name", ["signature", "timestamp", "nonce", "openid", "msg_signature", "encrypt_type"]
)
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_key_that_comes_twice(mode: Mode, name: str) -> None:
    sent = push(mode)
    values = dict(parse_qsl(sent.query))
    again = urlencode({name: values.get(name, "x")})
    twice = f"{again}&{sent.query}" if name in values else f"{again}&{again}&{sent.query}"
    refused(gate(mode), twice, sent.body)
    refused(gate(mode), f"{sent.query}&{again}&{again}", sent.body)


def test_refuses_a_doubled_echostr() -> None:
    with pytest.raises(Refused):
        gate(Mode.SAFE).verify_url(platform.query(echostr="e") + "&echostr=f", NOW)


@pytest.mark.parametrize(
    "query", ["", "&", "=", "signature", "?", "%ff=%ff", "a=%ff", "&".join("abcdefghijklmnopqrs")]
)
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_query_that_is_none(mode: Mode, query: str) -> None:
    sent = push(mode)
    refused(gate(mode), query, sent.body)
    with pytest.raises(Refused):
        gate(mode).verify_url(query, NOW)


@pytest.mark.parametrize("query", ["%ff=1", "x=%ff", "x=%ed%a0%80"])
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_signed_query_that_is_not_utf8(mode: Mode, query: str) -> None:
    sent = push(mode)
    refused(gate(mode), f"{sent.query}&{query}", sent.body)


@pytest.mark.parametrize("mode", Mode)
def test_refuses_another_token(mode: Mode) -> None:
    refused(gate(mode), *push(mode, token=platform.OTHER_TOKEN))


@pytest.mark.parametrize("mode", Mode)
def test_nothing_is_read_before_the_signature_holds(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("read before its signature was checked")

    monkeypatch.setattr("wechat.callback.parse", touched)
    monkeypatch.setattr("wechat.callback.read_message", touched)
    monkeypatch.setattr(MessageCrypto, "decrypt", touched)
    sent = push(mode)
    refused(gate(mode), with_value(sent.query, "signature", "0" * 40), sent.body)


@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_nothing_is_decrypted_before_its_signature_holds(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("decrypted before its signature was checked")

    monkeypatch.setattr(MessageCrypto, "decrypt", touched)
    sent = push(mode)
    refused(gate(mode), with_value(sent.query, "msg_signature", "0" * 40), sent.body)


# --- The time ---


@pytest.mark.parametrize("away", [-WINDOW, -WINDOW + 0.5, 0.0, WINDOW - 0.5, WINDOW])
@pytest.mark.parametrize("mode", Mode)
def test_is_fresh_up_to_the_windows_edge(mode: Mode, away: float) -> None:
    assert gate(mode).open(*push(mode), NOW + away)
    assert gate(mode).verify_url(platform.query(echostr="e"), NOW + away) == "e"


@pytest.mark.parametrize("away", [-1e9, -WINDOW - 0.5, WINDOW + 0.5, 1e9])
@pytest.mark.parametrize("mode", Mode)
def test_is_stale_beyond_either_edge(mode: Mode, away: float) -> None:
    refused(gate(mode), *push(mode), NOW + away)
    with pytest.raises(Refused):
        gate(mode).verify_url(platform.query(echostr="e"), NOW + away)


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "now",
        "-1700000000",
        "+1700000000",
        " 1700000000",
        "1700000000 ",
        "1700000000\n",
        "1_700_000_000",
        "1700000000.0",
        "1.7e9",
        "0x6553f100",
        "１７００００００００",
        "١٧٠٠٠٠٠٠٠٠",
        "170000000²",
        "1700000000000",
        "0001700000000",
        "9" * 12,
        "9" * 5000,
        "0" * 5000,
        "nan",
        "inf",
    ],
)
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_signed_time_that_is_none(mode: Mode, timestamp: str) -> None:
    refused(gate(mode), *push(mode, timestamp=timestamp))
    with pytest.raises(Refused):
        gate(mode).verify_url(platform.query(timestamp=timestamp, echostr="e"), NOW)


# --- The mode ---


ENCRYPT_TYPES = [None, "", "raw", "aes", "AES", "plain", "none", "safe", "compatible", "0", "签"]


def with_type(query: str, value: str | None) -> str:
    return without(query, "encrypt_type") if value is None else with_value(query, "encrypt_type", value)


@pytest.mark.parametrize("value", ENCRYPT_TYPES)
@pytest.mark.parametrize("mode", Mode)
def test_the_request_does_not_choose_the_mode(mode: Mode, value: str | None) -> None:
    sent = push(mode)
    assert gate(mode).open(with_type(sent.query, value), sent.body, NOW).message.openid == platform.OPENID


@pytest.mark.parametrize("value", ENCRYPT_TYPES)
@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_a_plain_body_is_refused_where_it_must_be_encrypted(mode: Mode, value: str | None) -> None:
    sent = platform.plain_push()
    query = with_type(sent.query, value)
    refused(gate(mode), query, sent.body)
    for claimed in ("", platform.signature(platform.TOKEN, str(platform.NOW), platform.NONCE)):
        refused(gate(mode), with_value(query, "msg_signature", claimed), sent.body)
    # An empty Encrypt has a signature that anybody can take from the query.
    body = platform.compatible_envelope("", sent.body)
    refused(gate(mode), with_value(query, "msg_signature", dict(parse_qsl(query))["signature"]), body)


@pytest.mark.parametrize("value", ENCRYPT_TYPES)
def test_an_encrypted_body_is_refused_in_plain_mode(value: str | None) -> None:
    sent = platform.safe_push()
    refused(gate(Mode.PLAIN), with_type(sent.query, value), sent.body)


@pytest.mark.parametrize("value", ENCRYPT_TYPES)
def test_plain_mode_reads_the_clear_fields_whatever_else_is_there(value: str | None) -> None:
    sent = push(Mode.COMPATIBLE)
    delivery = gate(Mode.PLAIN).open(with_type(sent.query, value), sent.body, NOW)
    assert delivery.message == read_message(parse(platform.scan()))
    assert delivery.crypto is None


def test_compatible_mode_does_not_believe_the_clear_fields() -> None:
    encrypted = platform.encrypt(platform.padded(platform.frame(platform.scan("oSELF", "scene-2"))))
    body = platform.compatible_envelope(encrypted, platform.scan("oVICTIM", "scene-1"))
    delivery = gate(Mode.COMPATIBLE).open(*platform.encrypted_push(encrypted, body), NOW)
    assert (delivery.message.openid, delivery.message.scene) == ("oSELF", "scene-2")
    assert "Encrypt" not in delivery.fields


@pytest.mark.parametrize(
    "extra",
    [
        "<FromUserName>oVICTIM</FromUserName>",
        "<MsgType>event</MsgType>",
        "<x/>",
        "<Encrypt>x</Encrypt>",
        "<AppId>wx</AppId>",
        "<ToUserName><x/></ToUserName>",
    ],
)
def test_safe_mode_takes_the_bare_envelope_alone(extra: str) -> None:
    sent = platform.safe_push()
    assert gate(Mode.SAFE).open(*sent, NOW)
    refused(gate(Mode.SAFE), sent.query, sent.body.replace(b"</xml>", extra.encode() + b"</xml>"))


@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_refuses_two_ciphertexts(mode: Mode) -> None:
    sent = push(mode)
    element = sent.body[sent.body.index(b"<Encrypt>") : sent.body.index(b"</xml>")]
    refused(gate(mode), sent.query, sent.body.replace(element, element + element))
    refused(gate(mode), sent.query, sent.body.replace(element, b"<Encrypt>" + element + b"</Encrypt>"))
    refused(gate(mode), sent.query, sent.body.replace(element, b""))


# --- The ciphertext ---


MESSAGE = platform.scan()
CIPHERTEXT = base64.b64decode(platform.encrypt(platform.padded(platform.frame(MESSAGE))))


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_refuses_every_flipped_byte(flip: int) -> None:
    safe, query = gate(Mode.SAFE), platform.safe_push(MESSAGE).query
    for at, byte in enumerate(CIPHERTEXT):
        flipped = CIPHERTEXT[:at] + bytes([byte ^ flip]) + CIPHERTEXT[at + 1 :]
        encrypted = base64.b64encode(flipped).decode()
        refused(safe, query, platform.envelope(encrypted))
        # Nor does it pass for whoever knows the token but not the key.
        refused(safe, *platform.encrypted_push(encrypted))


def test_refuses_every_changed_character_of_the_text() -> None:
    safe = gate(Mode.SAFE)
    sent = platform.safe_push(MESSAGE)
    text = base64.b64encode(CIPHERTEXT).decode()
    for at, character in enumerate(text):
        changed = "A" if character != "A" else "B"
        refused(safe, sent.query, platform.envelope(text[:at] + changed + text[at + 1 :]))


@pytest.mark.parametrize("size", [1, 16, 17, 32])
def test_refuses_padding_with_any_wrong_byte(size: int) -> None:
    scene = "s" * ((32 - size - len(platform.frame(platform.scan(scene="")))) % 32)
    data = platform.padded(platform.frame(platform.scan(scene=scene)))
    assert data[-1] == size
    safe = gate(Mode.SAFE)
    assert safe.open(*platform.encrypted_push(platform.encrypt(data)), NOW)
    for at in range(len(data) - size, len(data)):
        for value in {0, 1, 2, 15, 16, 17, 31, 32, 33, 128, 255} - {size}:
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            refused(safe, *platform.encrypted_push(platform.encrypt(changed)))


@pytest.mark.parametrize(
    "message", [b"", b"hello", b"<xml></xml>", b"<xml>", b'{"FromUserName": "x"}', b"\xff", b"success"]
)
@pytest.mark.parametrize("mode", Mode)
def test_refuses_what_is_well_sent_and_no_message(mode: Mode, message: bytes) -> None:
    sent = platform.plain_push(message) if mode is Mode.PLAIN else platform.safe_push(message)
    refused(gate(mode), *sent)


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 200_000 + b"</a>" * 200_000,
        b"<xml>" + b"<a>" * 13_000,
        b"<xml><a>" + b"x" * 10_000_000 + b"</a></xml>",
    ],
    ids=["200,000 nested elements", "inside the cap on bytes", "10 MB"],
)
@pytest.mark.parametrize("mode", Mode)
def test_refuses_a_flood(mode: Mode, body: bytes) -> None:
    refused(gate(mode), push(mode).query, body)


# --- Rotation ---


BOTH_TOKENS = (platform.TOKEN, platform.OTHER_TOKEN)
BOTH_KEYS = (platform.KEY, platform.OTHER_KEY)


@pytest.mark.parametrize("token", BOTH_TOKENS)
@pytest.mark.parametrize("mode", Mode)
def test_a_previous_token_is_good_while_it_is_listed(mode: Mode, token: str) -> None:
    rotating = gate(mode, BOTH_TOKENS)
    assert rotating.open(*push(mode, token=token), NOW)
    assert rotating.verify_url(platform.query(token, echostr="e"), NOW) == "e"
    refused(rotating, *push(mode, token="anythingElse"))


@pytest.mark.parametrize("key", BOTH_KEYS)
def test_a_previous_key_is_good_while_it_is_listed(key: str) -> None:
    rotating = gate(Mode.SAFE, keys=BOTH_KEYS)
    assert rotating.open(*platform.safe_push(key=key), NOW).message.openid == platform.OPENID
    other = platform.OTHER_KEY if key == platform.KEY else platform.KEY
    refused(gate(Mode.SAFE, keys=(other,)), *platform.safe_push(key=key))


@pytest.mark.parametrize("tokens", [("",), (platform.TOKEN, ""), ("", platform.TOKEN)])
@pytest.mark.parametrize("mode", Mode)
def test_a_blank_token_cannot_be_set(mode: Mode, tokens: tuple[str, ...]) -> None:
    """Anybody can sign with it; `previous: ""` in the settings must not open the gate."""
    with pytest.raises(ValueError, match="token"):
        gate(mode, tokens)


@pytest.mark.parametrize("mode", Mode)
def test_a_gate_without_secrets_is_shut(mode: Mode) -> None:
    shut = Gate(mode, (), (), WINDOW)
    refused(shut, *push(mode))
    with pytest.raises(Refused):
        shut.verify_url(platform.query(echostr="e"), NOW)
    if mode is not Mode.PLAIN:
        refused(Gate(mode, (platform.TOKEN,), (), WINDOW), *push(mode))


def test_no_secret_is_shown_in_a_log() -> None:
    rotating = gate(Mode.SAFE, BOTH_TOKENS)
    delivery = rotating.open(*platform.safe_push(token=platform.OTHER_TOKEN), NOW)
    for token in BOTH_TOKENS:
        assert token not in repr(rotating)
        assert token not in repr(delivery)


# --- Replies ---


def counting() -> Callable[[int], bytes]:
    """Random bytes that are known: each call gives others."""
    calls = iter(range(1, 256))
    return lambda size: bytes([next(calls)]) * size


def test_a_reply_in_plain_mode_goes_in_clear() -> None:
    plain = gate(Mode.PLAIN)
    delivery = plain.open(*push(Mode.PLAIN), NOW)
    reply = text_reply(delivery.message, "你好", NOW)
    assert plain.seal(delivery, reply, NOW, counting()) == reply


@pytest.mark.parametrize("token", BOTH_TOKENS)
@pytest.mark.parametrize("key", BOTH_KEYS)
@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_the_platform_can_open_a_sealed_reply(mode: Mode, key: str, token: str) -> None:
    """Also while token and key rotate: the reply is made with those that the push came with."""
    rotating = gate(mode, BOTH_TOKENS, BOTH_KEYS)
    delivery = rotating.open(*push(mode, key=key, token=token), NOW)
    reply = text_reply(delivery.message, "]]> 你好 \U0001f600", NOW)
    envelope = parse(rotating.seal(delivery, reply, NOW + 0.9, counting()))

    assert set(envelope) == {"Encrypt", "MsgSignature", "TimeStamp", "Nonce"}
    encrypted, timestamp, nonce = (text_of(envelope, name) for name in ("Encrypt", "TimeStamp", "Nonce"))
    assert timestamp == str(platform.NOW)
    assert envelope["MsgSignature"] == platform.signature(token, timestamp, nonce, encrypted)
    opened = platform.open_frame(encrypted, key)
    assert opened.message == reply
    assert opened.appid == platform.APPID.encode()
    # Prefix and nonce come from the source of randomness, 16 and 8 bytes, and are not each other's.
    assert {opened.random, bytes.fromhex(nonce)} == {b"\x01" * 16, b"\x02" * 8}


@given(st.text())
def test_any_text_can_be_sealed(text: str) -> None:
    safe = gate(Mode.SAFE)
    delivery = safe.open(*platform.safe_push(), NOW)
    reply = text_reply(delivery.message, text, NOW)
    envelope = parse(safe.seal(delivery, reply, NOW, counting()))
    assert platform.open_frame(text_of(envelope, "Encrypt")).message == reply


# --- Replies that another program made (`wechat.forward_url`) ---


def sealed_by_another(reply: bytes, token: str = platform.TOKEN, key: str = platform.KEY) -> bytes:
    """A reply in its envelope, as another program with our token and key makes it."""
    encrypted = platform.encrypt(platform.padded(platform.frame(reply)), key)
    signed = platform.signature(token, str(platform.NOW), platform.NONCE, encrypted)
    return (
        f"<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt><MsgSignature><![CDATA[{signed}]]></MsgSignature>"
        f"<TimeStamp>{platform.NOW}</TimeStamp><Nonce><![CDATA[{platform.NONCE}]]></Nonce></xml>"
    ).encode()


REPLY = text_reply(read_message(parse(platform.scan())), "hi", NOW)
TO_ANOTHER = text_reply(read_message(parse(platform.scan("oOTHER"))), "hi", NOW)


@pytest.mark.parametrize(
    ("mode", "clear", "sealed"),
    [(Mode.PLAIN, True, False), (Mode.COMPATIBLE, True, True), (Mode.SAFE, False, True)],
)
def test_a_reply_has_the_form_of_its_mode(mode: Mode, clear: bool, sealed: bool) -> None:
    opener = gate(mode)
    delivery = opener.open(*push(mode), NOW)
    assert opener.is_reply(delivery, REPLY) == clear
    assert opener.is_reply(delivery, sealed_by_another(REPLY)) == sealed
    assert opener.is_reply(delivery, opener.seal(delivery, REPLY, NOW, counting()))


@pytest.mark.parametrize("mode", Mode)
def test_a_reply_is_for_the_person_who_caused_it(mode: Mode) -> None:
    opener = gate(mode)
    delivery = opener.open(*push(mode), NOW)
    assert not opener.is_reply(delivery, TO_ANOTHER)
    assert not opener.is_reply(delivery, sealed_by_another(TO_ANOTHER))


@pytest.mark.parametrize("mode", ENCRYPTED_MODES)
def test_a_sealed_reply_must_open(mode: Mode) -> None:
    opener = gate(mode)
    delivery = opener.open(*push(mode), NOW)
    right = sealed_by_another(REPLY)
    nonce = platform.NONCE.encode()
    for wrong in (
        sealed_by_another(REPLY, token=platform.OTHER_TOKEN),
        sealed_by_another(REPLY, key=platform.OTHER_KEY),
        right.replace(nonce, nonce[::-1]),
        right.replace(b"<Nonce>", b"<Once>").replace(b"</Nonce>", b"</Once>"),
        sealed_by_another(b"success"),
        sealed_by_another(b"<!DOCTYPE xml>" + REPLY),
        sealed_by_another(b"\xff"),
    ):
        assert not opener.is_reply(delivery, wrong)


@given(st.sampled_from(Mode), st.binary() | st.text().map(str.encode) | st.just(b"success"))
def test_nothing_else_is_a_reply(mode: Mode, body: bytes) -> None:
    opener = gate(mode)
    delivery = opener.open(*push(mode), NOW)
    assert not opener.is_reply(delivery, body)
    assert not opener.is_reply(delivery, sealed_by_another(body))


# --- Anything at all ---


ANYTHING = st.text(st.characters()) | st.lists(
    st.tuples(
        st.sampled_from(
            ["signature", "msg_signature", "timestamp", "nonce", "encrypt_type", "openid", "echostr"]
        ),
        st.text(),
    )
).map(urlencode)
BODIES = (
    st.binary()
    | st.text().map(lambda text: f"<xml><Encrypt>{text}</Encrypt></xml>".encode())
    | st.sampled_from([platform.scan(), platform.safe_push().body])
)


@given(st.sampled_from(Mode), ANYTHING, BODIES)
def test_nothing_unsigned_passes_and_nothing_breaks(mode: Mode, query: str, body: bytes) -> None:
    refused(gate(mode), query, body)
    with pytest.raises(Refused):
        gate(mode).verify_url(query, NOW)


@given(st.binary(max_size=200) | st.text().map(str.encode) | st.sampled_from([b"<xml/>", platform.scan()]))
def test_nothing_signed_breaks(body: bytes) -> None:
    """A signature holds for any body in plain mode; an envelope may hold any text."""
    with suppress(Refused):
        assert isinstance(gate(Mode.PLAIN).open(*platform.plain_push(body), NOW), Delivery)
    with suppress(Refused):
        assert isinstance(gate(Mode.SAFE).open(*platform.safe_push(body), NOW), Delivery)
    encrypted = platform.encrypt(platform.padded(body))
    refused(gate(Mode.SAFE), *platform.encrypted_push(encrypted))
