"""What is in a push and in its reply: modes, ciphertexts, rotation, replies of ours and of others."""

import base64
from collections.abc import Callable
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import platform
from tests.wechat.gates import ENCRYPTED_MODES, NOW, WINDOW, gate, push, refused, with_value, without
from wechat.callback import Gate, Mode, Refused
from wechat.messages import read_message
from wechat.replies import text_reply
from wechat.xml import parse, text_of

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
