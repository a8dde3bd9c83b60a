"""The callback over real sockets: who is no WeChat gets one answer, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from emulator.platform import USER_INFO
from errors import StoreUnavailable
from tests.handlers.attacks import PERSON, Attack, aimed, attacks, in_chunks
from tests.harness import CALLBACK, Answer, Whole, running
from wechat.callback import Mode

VARYING = {"X-Request-Id", "Date"}


@pytest.fixture(params=list(Mode))
async def whole(tmp_path, request):
    async with running(tmp_path, mode=request.param) as whole:
        yield whole


async def sent(whole: Whole, data: bytes) -> Answer:
    async with whole.wire() as wire:
        await wire.send(data)
        return await wire.answer()


def shown(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    kept = {name: value for name, value in answer.headers.get_all() if name not in VARYING}
    return answer.status, answer.body, kept


def host(whole: Whole) -> str:
    return f"127.0.0.1:{whole.server.port}"


async def test_every_refusal_is_the_same_and_does_nothing(whole):
    ticket_id = await whole.browser().open_login()
    push = await aimed(whole, ticket_id)
    before = await whole.stored(ticket_id)
    used = whole.transactions()
    answers = {}
    for name, attack in attacks(whole, push):
        for chunked in (False, True):
            answer = await sent(whole, attack.http(host(whole), chunked=chunked))
            answers[f"{name}, in chunks" if chunked else name] = shown(answer)
    status, body, headers = answers["no query"]
    assert (status, body) == (403, b"")
    assert "Content-Type" not in headers
    assert {name: answer for name, answer in answers.items() if answer != (status, body, headers)} == {}
    assert len(answers) > 80
    if whole.emulator.platform.account.mode is not Mode.PLAIN:
        assert not used, "a refused push has reached the store"
    assert await whole.stored(ticket_id) == before
    assert whole.emulator.platform.calls[USER_INFO] == 0
    # The honest one still does what the others were meant to do.
    assert (await whole.post(push)).reply is not None
    assert (await whole.stored(ticket_id))[2][0].state == "CONFIRMED"
    assert await whole.user(PERSON) is not None


async def test_every_refused_check_of_the_url_is_the_same(whole):
    push = whole.emulator.courier.build(PERSON, {"MsgType": "text", "Content": "x", "MsgId": 1})
    query = push.url.partition("?")[2] + "&echostr=%3Cscript%3E"
    good = await sent(whole, f"GET {CALLBACK}?{query} HTTP/1.1\r\nHost: {host(whole)}\r\n\r\n".encode())
    assert (good.status, good.body) == (200, b"<script>")
    assert good.headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert good.headers["X-Content-Type-Options"] == "nosniff"
    refused = {}
    for wrong in (
        "",
        "echostr=x",
        query.replace("&echostr=", "&other="),
        query.replace("signature=", "signature=0"),
        query.replace("timestamp=1", "timestamp=2"),
        query.replace("nonce=", "nonce=1"),
        query + "&echostr=y",
        query + "&echostr=%ff",
        query + "&x=" + "y" * 9000,
        "%",
        "&&&",
    ):
        answer = await sent(whole, f"GET {CALLBACK}?{wrong} HTTP/1.1\r\nHost: {host(whole)}\r\n\r\n".encode())
        refused[wrong] = shown(answer)
    passed = query + "&x=" + "y" * 9000
    assert refused.pop(passed)[0] == 200, "a further parameter is no fault"
    reference = refused[""]
    assert reference[:2] == (403, b"")
    assert {wrong: answer for wrong, answer in refused.items() if answer != reference} == {}


async def test_headers_that_are_junk_change_nothing(whole):
    """What names a kind or a mode in the headers is not believed, and an odd one is no reason to fail."""
    for number, kind in enumerate(("application/json", "multipart/form-data; boundary=x", "\x80;;=", "")):
        ticket_id = await whole.browser().open_login()
        push = await aimed(whole, ticket_id)
        push = replace(push, headers={**push.headers, "Content-Type": kind, "X-Mode": "plain"})
        attempt = await whole.post(push)
        assert attempt.fault == "", number
        assert attempt.reply is not None


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO", "post"])
async def test_other_methods_are_refused(tmp_path, method):
    async with running(tmp_path) as whole:
        ticket_id = await whole.browser().open_login()
        push = await aimed(whole, ticket_id)
        used = whole.transactions()
        query = push.url.partition("?")[2]
        attack = Attack(query, push.body).http(host(whole)).replace(b"POST", method.encode(), 1)
        async with whole.wire() as wire:
            await wire.send(attack)
            answer = await wire.answer()
        assert (answer.status, answer.body) == (405, b"")
        assert not used


async def test_a_refusal_keeps_the_connection(whole):
    """A proxy speaks to us on few connections: what one stranger sends must not cost the others theirs."""
    ticket_id = await whole.browser().open_login()
    push = await aimed(whole, ticket_id)
    async with whole.wire() as wire:
        for name, attack in attacks(whole, push):
            if len(attack.body) < 64 * 1024:
                await wire.send(attack.http(host(whole)))
                assert (await wire.answer()).status == 403, name
        await wire.send(Attack(push.url.partition("?")[2], push.body).http(host(whole)))
        assert (await wire.answer()).status == 200


async def test_a_body_without_end_is_cut_off(tmp_path):
    async with running(tmp_path) as whole:
        used = whole.transactions()
        length = 65 * 1024 * 1024
        head = f"POST {CALLBACK} HTTP/1.1\r\nHost: {host(whole)}\r\nContent-Length: {length}\r\n\r\n"
        async with whole.wire() as wire:
            await wire.send(head.encode())
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                assert (await wire.answer()).status == 400
            assert await wire.ended()
        assert not used


async def test_an_expectation_of_a_long_body_is_answered(tmp_path):
    async with running(tmp_path) as whole:
        head = (
            f"POST {CALLBACK} HTTP/1.1\r\nHost: {host(whole)}\r\nContent-Length: 100000\r\n"
            "Expect: 100-continue\r\n\r\n"
        )
        async with whole.wire() as wire:
            await wire.send(head.encode() + b"x" * 100_000)
            answer = await wire.answer()
            if answer.status == 100:
                answer = await wire.answer()
            assert (answer.status, answer.body) == (403, b"")


async def test_what_is_half_sent_is_half_nothing(tmp_path):
    """A sender who goes away in the middle leaves no trace."""
    async with running(tmp_path) as whole:
        ticket_id = await whole.browser().open_login()
        push = await aimed(whole, ticket_id)
        used = whole.transactions()
        attack = Attack(push.url.partition("?")[2], push.body).http(host(whole))
        async with whole.wire() as wire:
            await wire.send(attack[:-20])
            await asyncio.sleep(0.1)
        chunks = Attack(push.url.partition("?")[2], push.body).http(host(whole), chunked=True)
        async with whole.wire() as wire:
            await wire.send(chunks.removesuffix(b"0\r\n\r\n"))
            await asyncio.sleep(0.1)
        assert not used
        assert in_chunks(b"abc") == b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("name", ["signature", "msg_signature"])
async def test_a_store_that_is_away_leaves_it_to_wechat_to_deliver_again(tmp_path, name):
    async with running(tmp_path) as whole:
        ticket_id = await whole.browser().open_login()
        push = await aimed(whole, ticket_id)
        transact = whole.storage.transact
        whole.store_goes_away()
        honest = Attack(push.url.partition("?")[2], push.body)
        answer = await sent(whole, honest.http(host(whole)))
        assert (answer.status, answer.body) == (503, b"")
        assert "Content-Type" not in answer.headers
        # Who is no WeChat does not even learn that.
        forged = Attack(honest.query.replace(f"&{name}=", f"&{name}=0"), push.body)
        if forged == honest:
            forged = Attack(honest.query.replace(f"{name}=", f"{name}=0", 1), push.body)
        assert (await sent(whole, forged.http(host(whole)))).status == 403
        whole.storage.transact = transact  # type: ignore[method-assign]
        assert (await sent(whole, honest.http(host(whole)))).status == 200
        assert (await whole.stored(ticket_id))[2][0].state == "CONFIRMED"


async def test_a_store_that_hangs_is_not_waited_for_longer_than_wechat_waits(tmp_path):
    async with running(tmp_path) as whole:
        push = whole.emulator.courier.build(
            PERSON, {"MsgType": "event", "Event": "subscribe", "EventKey": ""}
        )

        async def hang(transaction):
            time.sleep(5)  # noqa: ASYNC251  # the store's own thread

        hanging = asyncio.create_task(whole.storage.transact(hang))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        answer = await sent(whole, Attack(push.url.partition("?")[2], push.body).http(host(whole)))
        assert (answer.status, answer.body) == (503, b"")
        assert time.monotonic() - started < 4.8
        with pytest.raises(StoreUnavailable):
            await hanging


async def test_a_fault_of_ours_is_a_bare_500(tmp_path, expect_log):
    expect_log("POST /wechat/callback failed")
    async with running(tmp_path) as whole:
        push = whole.emulator.courier.build(
            whole.person(1), {"MsgType": "event", "Event": "subscribe", "EventKey": ""}
        )
        transact = whole.storage.transact

        async def broken(work):
            raise RuntimeError("secret detail")

        whole.storage.transact = broken  # type: ignore[method-assign]
        answer = await sent(whole, Attack(push.url.partition("?")[2], push.body).http(host(whole)))
        assert (answer.status, answer.body) == (500, b"")
        whole.storage.transact = transact  # type: ignore[method-assign]
        assert (await whole.post(push)).status == 200


MESSAGES = [
    {"MsgType": "text", "Content": "{}", "MsgId": 1},
    {"MsgType": "event", "Event": "subscribe", "EventKey": ""},
    {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""},
    {"MsgType": "event", "Event": "SCAN", "EventKey": "unknown", "Ticket": "x"},
    {"MsgType": "event", "Event": "SCAN", "EventKey": "A" * 24, "Ticket": "x"},
    {"MsgType": "event", "Event": "subscribe", "EventKey": "qrscene_" + "A" * 24, "Ticket": "x"},
    {"MsgType": "event", "Event": "subscribe", "EventKey": "last_trade_no_4200000000"},
    {"MsgType": "event", "Event": "LOCATION", "Latitude": "1", "Longitude": "2", "Precision": "3"},
    {"MsgType": "event", "Event": "TEMPLATESENDJOBFINISH", "MsgID": 12, "Status": "success"},
    {"MsgType": "event", "Event": "never heard of"},
    {"MsgType": "never heard of", "MsgId": 2},
    {"MsgType": "event"},
    {"MsgType": "event", "Event": "SCAN"},
    {"MsgType": "event", "Event": "SCAN", "EventKey": ["a", "b"]},
    {"MsgType": "event", "Event": "SCAN", "EventKey": {"ne": ""}},
]


async def test_every_delivery_is_answered_with_something_that_wechat_takes(whole):
    for number, fields in enumerate(MESSAGES):
        whole.emulator.platform.add_person("人", openid=f"oPerson{number}", following=True)
        attempt = await whole.post(whole.emulator.courier.build(f"oPerson{number}", fields))
        assert attempt.fault == "", fields
        assert attempt.status == 200
        with pytest.raises(ValueError):
            json.loads(attempt.answer)
        assert b"<html" not in attempt.answer.lower()


async def test_a_text_with_the_scene_logs_nobody_in(whole):
    ticket_id = await whole.browser().open_login()
    before = await whole.stored(ticket_id)
    for number, text in enumerate((ticket_id, f"qrscene_{ticket_id}", (await whole.ticket(ticket_id)).code)):
        fields = {
            "MsgType": "text",
            "Content": text,
            "EventKey": ticket_id,
            "Event": "SCAN",
            "MsgId": number + 7,
        }
        attempt = await whole.post(whole.emulator.courier.build(PERSON, fields))
        assert attempt.answer == b"success"
    for event in ("CLICK", "VIEW", "scancode_push", "LOCATION"):
        fields = {"MsgType": "event", "Event": event, "EventKey": ticket_id}
        assert (await whole.post(whole.emulator.courier.build(PERSON, fields))).answer == b"success"
    assert await whole.stored(ticket_id) == before


async def test_another_names_callback_is_not_ours(whole):
    push = whole.emulator.courier.build(PERSON, {"MsgType": "event", "Event": "subscribe", "EventKey": ""})
    used = whole.transactions()
    answer = await sent(whole, Attack(push.url.partition("?")[2], push.body).http("evil.example"))
    assert (answer.status, answer.body) == (421, b"")
    assert not used


async def test_without_wechat_in_the_settings_the_door_is_shut(tmp_path):
    async with running(tmp_path) as whole:
        push = whole.emulator.courier.build(
            PERSON, {"MsgType": "event", "Event": "subscribe", "EventKey": ""}
        )
    closed = {"appid": "", "secret": "", "token": "", "encoding_aes_key": ""}
    async with running(tmp_path / "closed", wechat=closed) as whole:
        query = push.url.partition("?")[2]
        answer = await sent(whole, Attack(query, push.body).http(host(whole)))
        assert (answer.status, answer.body) == (403, b"")
        get = f"GET {CALLBACK}?{query}&echostr=x HTTP/1.1\r\nHost: {host(whole)}\r\n\r\n"
        assert shown(await sent(whole, get.encode())) == shown(answer)


async def test_in_plain_mode_one_signature_brings_one_body(tmp_path):
    async with running(tmp_path, mode=Mode.PLAIN) as whole:
        ticket_id = await whole.browser().open_login()
        seen = whole.emulator.courier.build("oSomebodyElse", {"MsgType": "text", "Content": "hi", "MsgId": 5})
        assert (await whole.post(seen)).answer == b"success"
        forged = replace(await aimed(whole, ticket_id), url=seen.url)
        before = await whole.stored(ticket_id)
        assert (await whole.post(forged)).status == 403
        assert await whole.stored(ticket_id) == before
        assert (await whole.post(seen)).answer == b"success", "the same body again is a redelivery"


@pytest.mark.parametrize("mode", Mode)
async def test_no_event_scans_a_code_of_the_apps(tmp_path, mode):
    """Such a code has no ticket of WeChat's that a forged event would have to know."""
    app = {"issuer": "https://app.example.com", "key": "a secret that the app's backend shares with us"}
    async with running(tmp_path, mode=mode, app=app) as whole:
        ticket_id = await whole.browser().open_login("/login?method=app")
        whole.emulator.platform.add_person("仿", openid=PERSON, following=True)
        for event, key in (("SCAN", ticket_id), ("subscribe", f"qrscene_{ticket_id}")):
            fields = {"MsgType": "event", "Event": event, "EventKey": key, "Ticket": ""}
            attempt = await whole.post(whole.emulator.courier.build(PERSON, fields))
            assert attempt.status == 200
            assert "expired" in attempt.clear_answer or "失效" in attempt.clear_answer
        assert (await whole.stored(ticket_id))[2][0].state == "WAITING"


async def test_in_plain_mode_a_scan_must_know_the_codes_ticket(tmp_path):
    async with running(tmp_path, mode=Mode.PLAIN) as whole:
        ticket_id = await whole.browser().open_login()
        whole.emulator.platform.add_person("仿", openid=PERSON, following=True)
        for event, key in (("SCAN", ticket_id), ("subscribe", f"qrscene_{ticket_id}")):
            for ticket in ("", "gQforged"):
                fields = {"MsgType": "event", "Event": event, "EventKey": key, "Ticket": ticket}
                await whole.post(whole.emulator.courier.build(PERSON, fields))
                assert (await whole.stored(ticket_id))[2][0].state == "WAITING"
