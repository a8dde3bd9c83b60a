"""What the emulator posts, opened by the real Gate; and how it takes answers."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from emulator import Courier, Emulator
from emulator.phone import scan_fields
from tests.emulator.server import APPID, KEY, Callback, code
from wechat.callback import Delivery, Mode
from wechat.crypto import MessageCrypto
from wechat.replies import SUCCESS, text_reply
from wechat.xml import parse, write

ALL_MODES = pytest.mark.parametrize("mode", list(Mode))
TEXT: dict[str, str | int] = {
    "MsgType": "text",
    "Content": "你好 ]]> & <b> 😀",
    "MsgId": 24_000_000_000_000_001,
}


def someone(emulator: Emulator) -> str:
    return emulator.platform.add_person("Ada", following=True).openid


@ALL_MODES
async def test_the_gate_opens_what_is_posted(emulator: Emulator, callback: Callback) -> None:
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert outcome.accepted
    assert len(outcome.attempts) == len(callback.received) == 1
    fields = callback.received[0].delivery.fields
    assert list(fields) == ["ToUserName", "FromUserName", "CreateTime", "MsgType", "Content", "MsgId"]
    assert fields["Content"] == TEXT["Content"]
    assert fields["MsgId"] == "24000000000000001"
    assert fields["ToUserName"] == emulator.platform.account.original_id


async def test_an_event_has_wechats_order_of_fields(emulator: Emulator, callback: Callback) -> None:
    found = emulator.platform.find_code(code(emulator.platform))
    assert found is not None
    await emulator.courier.deliver(someone(emulator), scan_fields(found))
    names = ["ToUserName", "FromUserName", "CreateTime", "MsgType", "Event", "EventKey", "Ticket"]
    assert list(callback.received[0].delivery.fields) == names


@ALL_MODES
async def test_the_query_and_the_body_of_each_mode(
    emulator: Emulator, callback: Callback, mode: Mode
) -> None:
    openid = someone(emulator)
    await emulator.courier.deliver(openid, TEXT)
    received = callback.received[0]
    query = parse_qs(received.query)
    names = {"signature", "timestamp", "nonce", "openid"}
    body = parse(received.body)
    if mode is Mode.PLAIN:
        assert query.keys() == names
        assert "Encrypt" not in body
    else:
        assert query.keys() == names | {"encrypt_type", "msg_signature"}
        assert query["encrypt_type"] == ["aes"]
        assert ("Content" in body) is (mode is Mode.COMPATIBLE)
    if mode is Mode.SAFE:
        assert body.keys() == {"ToUserName", "Encrypt"}
        assert "你好".encode() not in received.body
    assert query["openid"] == [openid]
    assert query["nonce"][0].isdigit()
    assert received.headers["Content-Type"] == "text/xml"


@ALL_MODES
async def test_the_address_is_verified_with_an_echo(emulator: Emulator) -> None:
    assert await emulator.courier.verify_url()


async def test_an_address_with_another_token_is_not_verified(emulator: Emulator) -> None:
    emulator.platform.account = replace(emulator.platform.account, token="anotherToken")
    assert not await emulator.courier.verify_url()


async def test_a_wrong_token_is_refused_by_the_gate(emulator: Emulator, callback: Callback) -> None:
    emulator.platform.account = replace(emulator.platform.account, token="anotherToken")
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert not outcome.accepted
    assert callback.refused == 3
    assert not callback.received


@ALL_MODES
async def test_a_sealed_reply_is_read(emulator: Emulator, callback: Callback) -> None:
    callback.reply("欢迎 ]]> 😀")
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert outcome.accepted
    assert outcome.reply_text == "欢迎 ]]> 😀"
    assert "欢迎" in outcome.attempts[0].clear_answer


@pytest.mark.parametrize("answer", [b"", SUCCESS])
@ALL_MODES
async def test_nothing_to_say_is_said_in_clear(emulator: Emulator, callback: Callback, answer: bytes) -> None:
    callback.answer = lambda delivery: answer
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert outcome.accepted
    assert outcome.reply is None
    assert len(callback.received) == 1


async def test_unanswered_pushes_come_three_times_unchanged(emulator: Emulator, callback: Callback) -> None:
    callback.answer = lambda delivery: None
    emulator.courier.timeout = 0.3
    before = time.monotonic()
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert time.monotonic() - before >= 0.9
    assert len(callback.received) == len(outcome.attempts) == 3
    assert len({(received.query, received.body) for received in callback.received}) == 1
    assert not outcome.accepted
    assert [attempt.status for attempt in outcome.attempts] == [0, 0, 0]
    assert "no answer within 0.3 s" in outcome.attempts[0].fault


async def test_redelivery_ends_with_the_first_valid_answer(emulator: Emulator, callback: Callback) -> None:
    answers: list[bytes | None] = [None, SUCCESS, None]
    callback.answer = lambda delivery: answers.pop(0)
    emulator.courier.timeout = 1.0
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert outcome.accepted
    assert len(outcome.attempts) == 2
    assert answers == [None]


async def test_the_number_of_tries_is_a_parameter(emulator: Emulator, callback: Callback) -> None:
    callback.status = 503
    courier = Courier(emulator.platform, timeout=1, tries=5)
    outcome = await courier.deliver(someone(emulator), TEXT)
    courier.close()
    assert len(callback.received) == len(outcome.attempts) == 5


async def test_a_server_that_is_not_there(emulator: Emulator, callback: Callback) -> None:
    await callback.stop()
    outcome = await emulator.courier.deliver(someone(emulator), TEXT)
    assert len(outcome.attempts) == 3
    assert outcome.attempts[0].fault.startswith("no answer: ")


async def test_a_push_is_posted_once_more_unchanged_and_not_before_it_is_sent(
    emulator: Emulator, callback: Callback
) -> None:
    push = emulator.courier.build(someone(emulator), TEXT)
    assert not callback.received
    await emulator.courier.send(push)
    await emulator.courier.post(push)
    first, second = callback.received
    assert (first.query, first.body) == (second.query, second.body)
    assert first.delivery.message.delivery_key == second.delivery.message.delivery_key


async def test_the_same_message_signed_anew(emulator: Emulator, callback: Callback) -> None:
    openid = someone(emulator)
    event = {"MsgType": "event", "Event": "subscribe", "EventKey": ""}
    for _ in range(2):
        await emulator.courier.send(emulator.courier.build(openid, event, created_at=1_700_000_000))
    first, second = callback.received
    assert first.query != second.query
    assert first.body != second.body
    assert first.delivery.message == second.delivery.message


@ALL_MODES
async def test_tampering_is_for_the_gate_to_find(emulator: Emulator, callback: Callback, mode: Mode) -> None:
    push = emulator.courier.build(someone(emulator), TEXT)
    url = urlsplit(push.url)
    tampered = replace(push, url=url._replace(query=url.query.replace("signature=", "signature=0")).geturl())
    assert (await emulator.courier.post(tampered)).status == 403
    assert callback.refused == 1


def xml(fields: dict[str, str | int]) -> bytes:
    return write(fields).encode()


PERSON, ACCOUNT = "o-person", "gh_a1b2c3d4e5f6"
GOOD: dict[str, str | int] = {
    "ToUserName": PERSON,
    "FromUserName": ACCOUNT,
    "CreateTime": 1_700_000_000,
    "MsgType": "text",
    "Content": "ok",
}


@pytest.mark.parametrize("mode", [Mode.PLAIN])
async def test_a_good_reply_in_clear_is_taken(emulator: Emulator, callback: Callback) -> None:
    callback.answer = lambda delivery: xml(GOOD)
    assert (await emulator.courier.deliver(PERSON, TEXT)).accepted


@pytest.mark.parametrize("mode", [Mode.PLAIN])
@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"ok": True}).encode(),
        b"<html>hello</html>",
        b" success",
        b"\xff",
        xml(GOOD | {"ToUserName": "o-somebody"}),
        xml(GOOD | {"FromUserName": "gh_other"}),
        xml(GOOD | {"CreateTime": 1_700_000_000_000}),
        xml(GOOD | {"MsgType": "event"}),
        xml(GOOD | {"Content": ""}),
        xml(GOOD | {"Content": "扫" * 683}),
        xml({name: value for name, value in GOOD.items() if name != "Content"}),
        xml({"Encrypt": "x", "MsgSignature": "x", "TimeStamp": 1, "Nonce": "x"}),
    ],
)
async def test_invalid_answers_are_asked_for_again(
    emulator: Emulator, callback: Callback, answer: bytes
) -> None:
    callback.answer = lambda delivery: answer
    outcome = await emulator.courier.deliver(PERSON, TEXT)
    assert not outcome.accepted
    assert outcome.reply is None
    assert len(callback.received) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed.replace(b"<MsgSignature><![CDATA[", b"<MsgSignature><![CDATA[0"),
        lambda sealed: sealed.replace(b"<Encrypt><![CDATA[", b"<Encrypt><![CDATA[AAAA"),
        lambda sealed: sealed.replace(b"TimeStamp", b"Timestamp"),
    ],
)
async def test_a_spoilt_seal_is_invalid(
    emulator: Emulator, callback: Callback, spoil: Callable[[bytes], bytes]
) -> None:
    callback.answer = lambda delivery: spoil(
        callback.sealed(delivery, text_reply(delivery.message, "hi", time.time()))
    )
    assert not (await emulator.courier.deliver(someone(emulator), TEXT)).accepted


@pytest.mark.parametrize(("mode", "accepted"), [(Mode.SAFE, False), (Mode.COMPATIBLE, True)])
async def test_a_clear_reply_is_for_the_compatible_mode(
    emulator: Emulator, callback: Callback, accepted: bool
) -> None:
    callback.answer = lambda delivery: text_reply(delivery.message, "hi", time.time())
    assert (await emulator.courier.deliver(someone(emulator), TEXT)).accepted is accepted


@pytest.mark.parametrize("mode", [Mode.PLAIN])
async def test_a_sealed_reply_is_not_for_the_plain_mode(emulator: Emulator, callback: Callback) -> None:
    def sealed(delivery: Delivery) -> bytes:
        reply = text_reply(delivery.message, "hi", time.time())
        return callback.sealed(replace(delivery, crypto=MessageCrypto(KEY, APPID)), reply)

    callback.answer = sealed
    assert not (await emulator.courier.deliver(someone(emulator), TEXT)).accepted


async def test_many_deliveries_run_at_once(emulator: Emulator, callback: Callback) -> None:
    callback.reply("hi")
    people = [emulator.platform.add_person(f"p{number}", following=True).openid for number in range(50)]
    outcomes = await asyncio.gather(*(emulator.courier.deliver(openid, TEXT) for openid in people))
    assert all(len(outcome.attempts) == 1 and outcome.accepted for outcome in outcomes)
