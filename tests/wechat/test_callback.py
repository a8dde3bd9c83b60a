"""Who may speak to us: the vectors, signatures, times, and anything at all."""

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wechat import platform, vectors
from tests.wechat.gates import ENCRYPTED_MODES, NOW, WINDOW, gate, push, refused, with_value, without
from wechat.callback import Delivery, Gate, Mode, Refused
from wechat.crypto import MessageCrypto
from wechat.messages import Action, read_message
from wechat.signature import matches
from wechat.xml import parse, text_of

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
