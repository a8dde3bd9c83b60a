"""Whole flows over real sockets, from the phone to the page and the programs, on both stores."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import Disclosure, Emulator, Push
from emulator.phone import scan_fields, subscribe_fields
from emulator.platform import QRCODE_CREATE, STABLE_TOKEN, USER_INFO
from tests.handlers.attacks import attacks
from tests.harness import Whole, document, new_account, running
from wechat.callback import Mode
from wechat.replies import SUCCESS

FOLLOWER, STRANGER, OTHER_STRANGER = 1, 0, 4


@pytest.fixture(params=["sqlite", "mongodb"])
def stored_in(request) -> dict[str, Any]:
    """The setting that names the store."""
    if request.param == "sqlite":
        return {}
    return {"storage": {"url": request.getfixturevalue("mongodb_url")}}


@pytest.fixture(params=list(Mode))
async def whole(tmp_path, stored_in, request):
    """In each mode on each store."""
    async with running(tmp_path, mode=request.param, **stored_in) as whole:
        yield whole


@pytest.fixture
async def safe(tmp_path, stored_in):
    async with running(tmp_path, **stored_in) as whole:
        yield whole


async def read(socket) -> dict[str, Any] | None:
    message = await asyncio.wait_for(socket.read_message(), 10)
    return None if message is None else json.loads(message)


async def scan_push(whole: Whole, ticket_id: str, person: str, created_at: int | None = None) -> Push:
    """The event of a scan, built and not sent."""
    ticket = await whole.ticket(ticket_id)
    assert ticket is not None
    code = whole.emulator.platform.find_code(ticket.code)
    assert code is not None
    following = whole.emulator.platform.people[person].following
    fields = scan_fields(code) if following else subscribe_fields(code)
    return whole.emulator.courier.build(person, fields, created_at)


# --- Scans.


@pytest.mark.parametrize("number", [STRANGER, FOLLOWER], ids=["new follower", "old follower"])
async def test_a_scan_logs_in(whole, number):
    browser, person = whole.browser(), whole.person(number)
    ticket_id = await browser.open_login("/login?next=/deep")
    async with browser.socket(ticket_id) as socket:
        assert (await read(socket))["state"] == "WAITING"
        outcome = await whole.scan(ticket_id, person)
        assert outcome.accepted
        assert len(outcome.attempts) == 1
        assert "Chrome" in outcome.reply_text
        assert "/not-me/" in outcome.reply_text
        assert (await read(socket))["state"] == "CONFIRMED"
        collected = await browser.exchange(ticket_id)
        assert (collected.code, document(collected)["next"]) == (200, "/deep")
        assert (await read(socket))["state"] == "CONSUMED"
        assert await read(socket) is None
    me = document(await browser.get("/api/v1/me"))
    assert me["identities"] == [{"provider": "wechat", "subject": person, "following": True}]
    users, logins, _ = await whole.stored()
    assert [user.login_count for user in users] == [1]
    assert [(login.result, login.user_id) for login in logins] == [("success", me["id"])]


async def test_a_person_who_comes_again_is_the_same(safe):
    first, second = safe.browser(), safe.browser()
    once = await safe.log_in(first, safe.person())
    again = await safe.log_in(second, safe.person())
    assert once["user"]["id"] == again["user"]["id"]
    users, logins, _ = await safe.stored()
    assert [user.login_count for user in users] == [2]
    assert len(logins) == 2
    assert (await first.get("/api/v1/me")).code == 200, "another browser's session goes on"


async def test_following_without_a_code_logs_nobody_in(tmp_path, stored_in):
    async with running(tmp_path, wechat={"welcome": "你好 <b>"}, **stored_in) as whole:
        ticket_id = await whole.browser().open_login()
        outcome = await whole.emulator.phone.follow(whole.person())
        assert outcome.reply_text == "你好 <b>"
        users, logins, (ticket,) = await whole.stored(ticket_id)
        assert [user.identities[0].following for user in users] == [True]
        assert logins == ()
        assert ticket.state == "WAITING"


async def test_following_without_a_welcome_is_answered_with_success(safe):
    outcome = await safe.emulator.phone.follow(safe.person())
    assert outcome.attempts[0].answer == SUCCESS
    assert await safe.user(safe.person()) is not None


async def test_a_redelivered_event_is_done_once_and_answered_alike(whole):
    browser, person = whole.browser(), whole.person()
    ticket_id = await browser.open_login()
    push = await scan_push(whole, ticket_id, person)
    whole.emulator.platform.people[person].following = True
    first = await whole.post(push)
    assert first.reply is not None
    await whole.server.profiles.idle()
    state = await whole.stored(ticket_id)
    again = [await whole.post(push) for _ in range(2)]
    assert [attempt.clear_answer for attempt in again] == [first.clear_answer] * 2
    assert await whole.stored(ticket_id) == state
    # With a fresh signature too, and after the login was collected.
    assert (await browser.exchange(ticket_id)).code == 200
    state = await whole.stored(ticket_id)
    signed_anew = whole.emulator.courier.build(
        person,
        subscribe_fields(whole.emulator.platform.find_code((await whole.ticket(ticket_id)).code)),
        int(first.clear_xml.partition("<CreateTime>")[2].partition("<")[0]),
    )
    assert signed_anew.url != push.url
    assert (await whole.post(signed_anew)).clear_answer == first.clear_answer
    assert await whole.stored(ticket_id) == state
    assert (await browser.get("/api/v1/me")).code == 200


async def test_three_deliveries_at_once_are_one(whole):
    person = whole.person(FOLLOWER)
    ticket_id = await whole.browser().open_login()
    push = await scan_push(whole, ticket_id, person)
    attempts = await asyncio.gather(*(whole.post(push) for _ in range(3)))
    assert len({attempt.clear_answer for attempt in attempts}) == 1
    assert {attempt.fault for attempt in attempts} == {""}
    users, _, (ticket,) = await whole.stored(ticket_id)
    assert (len(users), ticket.state) == (1, "CONFIRMED")


async def test_a_second_scan_by_somebody_else_changes_nothing(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    assert (await whole.scan(ticket_id, whole.person(STRANGER))).accepted
    taken = await whole.ticket(ticket_id)
    second = await whole.scan(ticket_id, whole.person(FOLLOWER))
    assert second.accepted
    assert "/not-me/" not in second.reply_text
    assert await whole.ticket(ticket_id) == taken
    assert document(await browser.exchange(ticket_id))["user"]["identities"][0]["subject"] == whole.person(
        STRANGER
    )
    third = await whole.scan(ticket_id, whole.person(FOLLOWER))
    assert "/not-me/" not in third.reply_text
    me = document(await browser.get("/api/v1/me"))
    assert me["identities"][0]["subject"] == whole.person(STRANGER)


async def test_a_code_is_good_to_its_end_and_no_longer(safe):
    browser = safe.browser()
    early, late = await browser.open_login("/login?next=/a"), await browser.open_login("/login?next=/b")
    async with browser.socket(late) as socket:
        assert (await read(socket))["state"] == "WAITING"
        safe.clock.pass_(298)
        assert (await safe.scan(early, safe.person(FOLLOWER))).accepted
        safe.clock.pass_(3)
        # The page is told by itself; what was scanned in time lives on to be collected.
        await safe.server.context.broker.publish(late)
        assert (await read(socket))["state"] == "INVALID"
        assert await read(socket) is None
    assert (await browser.exchange(early)).code == 200
    assert (await browser.get(f"/api/v1/tickets/{late}")).code == 404
    again = await safe.post(await scan_push(safe, late, safe.person(FOLLOWER)))
    assert again.reply is not None
    assert "/not-me/" not in again.clear_answer
    assert (await safe.ticket(late)).state == "WAITING", "as stored; to everybody it is INVALID"


# --- Leaving and coming back.


async def test_unfollowing(whole):
    browser, other, person = whole.browser(), whole.browser(), whole.person(2)
    assert whole.emulator.platform.people[person].disclosure is Disclosure.FULL
    login = await whole.log_in(browser, person)
    await whole.server.profiles.idle()
    assert document(await browser.get("/api/v1/me"))["name"] == "陈默"
    pending = await other.open_login()
    assert (await whole.scan(pending, person)).accepted
    async with other.socket(pending) as socket:
        assert (await read(socket))["state"] == "CONFIRMED"
        outcome = await whole.emulator.phone.unfollow(person)
        assert outcome.attempts[0].answer == SUCCESS
        assert (await read(socket))["state"] == "CANCELLED"
        assert await read(socket) is None
    assert (await browser.get("/api/v1/me")).code == 401
    assert (await other.exchange(pending)).code in (403, 409)
    user = await whole.user(person)
    assert user.id == login["user"]["id"]
    (identity,) = user.identities
    assert not identity.following
    assert (identity.profile.nickname, identity.profile.picture, identity.profile.city) == ("", "", "")
    # Coming back by a code logs in again, as the same person, with the profile fetched anew.
    whole.clock.pass_(2)
    again = await whole.log_in(browser, person)
    assert again["user"]["id"] == user.id
    await whole.server.profiles.idle()
    assert document(await browser.get("/api/v1/me"))["name"] == "陈默"


async def test_an_old_event_that_arrives_late_changes_nothing(safe):
    browser, person = safe.browser(), safe.person(FOLLOWER)
    await safe.log_in(browser, person)
    now = int(safe.clock())
    gone = {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""}
    assert (await safe.post(safe.emulator.courier.build(person, gone, now - 60))).answer == SUCCESS
    assert (await safe.user(person)).identities[0].following
    assert (await browser.get("/api/v1/me")).code == 200
    # And a late follow does not bring back who has left.
    assert (await safe.post(safe.emulator.courier.build(person, gone, now + 5))).answer == SUCCESS
    came = {"MsgType": "event", "Event": "subscribe", "EventKey": ""}
    await safe.post(safe.emulator.courier.build(person, came, now + 1))
    assert not (await safe.user(person)).identities[0].following
    ticket_id = await browser.open_login()
    await safe.post(await scan_push(safe, ticket_id, person, now + 2))
    assert (await safe.ticket(ticket_id)).state == "WAITING"


async def test_sessions_may_outlive_an_unfollow(tmp_path, stored_in):
    async with running(tmp_path, wechat={"unfollow": "keep_sessions"}, **stored_in) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        await whole.emulator.phone.unfollow(whole.person())
        assert (await browser.get("/api/v1/me")).code == 200


# --- Forgeries.


async def test_a_forgery_has_no_effect_at_all(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person(FOLLOWER))
    ticket_id = await browser.open_login("/login?next=/x")
    await whole.server.profiles.idle()
    push = await scan_push(whole, ticket_id, whole.person(STRANGER))
    unfollow = whole.emulator.courier.build(
        whole.person(FOLLOWER), {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""}
    )
    before = await whole.stored(ticket_id)
    calls = whole.emulator.platform.calls[USER_INFO]
    async with browser.socket(ticket_id) as socket:
        assert (await read(socket))["state"] == "WAITING"
        for honest in (push, unfollow):
            for name, attack in attacks(whole, honest):
                if len(attack.body) > 1_000_000:
                    continue
                url = f"{honest.url.partition('?')[0]}?{attack.query}"
                attempt = await whole.post(replace(honest, url=url, body=attack.body))
                assert (attempt.status, attempt.answer) == (403, b""), name
        assert await whole.stored(ticket_id) == before
        assert whole.emulator.platform.calls[USER_INFO] == calls
        assert (await browser.get("/api/v1/me")).code == 200
        # Nothing was waiting to be told either: the next thing heard is the honest scan.
        whole.emulator.platform.people[whole.person(STRANGER)].following = True
        assert (await whole.post(push)).reply is not None
        assert (await read(socket))["state"] == "CONFIRMED"


# --- The team's own backend.


class Backend(RequestHandler):
    def initialize(self, seen: list[Any], answer: list[Any]) -> None:
        self.seen, self.reply_with = seen, answer

    async def post(self) -> None:
        self.seen.append((self.request.query, self.request.body, self.request.headers.get("Content-Type")))
        reply = self.reply_with[0]
        status, body, seconds = reply(self.seen[-1]) if callable(reply) else reply
        await asyncio.sleep(seconds)
        self.set_status(status)
        self.finish(body)


@asynccontextmanager
async def backend():
    seen: list[Any] = []
    answer: list[Any] = [(200, b"success", 0.0)]
    (sock,) = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(
        Application([("/hook", Backend, {"seen": seen, "answer": answer})], log_function=lambda _: None)
    )
    server.add_socket(sock)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/hook?key=1", seen, answer
    finally:
        server.stop()
        await server.close_all_connections()


def own_reply(whole: Whole, person: str, text: str):
    """What a backend that knows the account's keys would answer."""
    from wechat.replies import text_reply

    def reply(seen: tuple[str, bytes, str]) -> tuple[int, bytes, float]:
        gate = whole.server._deliveries._gate
        query = seen[0].partition("&")[2] if seen[0].startswith("key=") else seen[0]
        delivery = gate.open(query, seen[1], whole.clock())
        clear = text_reply(delivery.message, text, whole.clock())
        return 200, gate.seal(delivery, clear, whole.clock(), lambda count: b"r" * count), 0.0

    return reply


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_message_is_relayed_and_the_reply_passed_back(tmp_path, stored_in, mode):
    async with backend() as (url, seen, answer):
        settings = {"wechat": {"forward_url": url}, **stored_in}
        async with running(tmp_path, mode=mode, **settings) as whole:
            person = whole.person(FOLLOWER)
            answer[0] = own_reply(whole, person, "来自后台 ]]> <b>")
            outcome = await whole.emulator.phone.send_text(person, "你好")
            assert outcome.reply_text == "来自后台 ]]> <b>"
            assert len(seen) == 1
            query, body, kind = seen[0]
            assert query == "key=1&" + outcome.push.url.partition("?")[2]
            assert body == outcome.push.body
            assert kind == "text/xml"
            # The same again is not relayed again, and answered alike.
            again = await whole.post(outcome.push)
            assert again.clear_answer == outcome.attempts[0].clear_answer
            assert len(seen) == 1
            # A login is nobody's business but ours.
            await whole.log_in(whole.browser(), whole.person(STRANGER))
            assert len(seen) == 1


async def test_a_backend_that_is_slow_wrong_or_away_costs_no_answer(tmp_path, expect_log):
    expect_log("answered with status 500")
    expect_log("answered with something that is no reply")
    expect_log("gives no answer|cannot be reached")
    async with backend() as (url, seen, answer), running(tmp_path, wechat={"forward_url": url}) as whole:
        person = whole.person(FOLLOWER)
        for odd in (
            (500, b"boom", 0.0),
            (200, b'{"a": 1}', 0.0),
            (200, b"<html>", 0.0),
            (200, b"x" * 70_000, 0.0),
        ):
            answer[0] = odd
            outcome = await whole.emulator.phone.send_text(person, "hi")
            assert outcome.attempts[0].answer == SUCCESS, odd
        answer[0] = (200, b"success", 10.0)
        whole.emulator.courier.timeout = 5.0
        push = whole.emulator.courier.build(person, {"MsgType": "text", "Content": "slow", "MsgId": 99})
        started = time.monotonic()
        slow = whole.post(push)
        # Meanwhile a login is not kept waiting.
        waiting = asyncio.ensure_future(slow)
        await whole.log_in(whole.browser(), person)
        assert time.monotonic() - started < 2
        assert (await waiting).answer == SUCCESS
        assert time.monotonic() - started < 4.5
        assert len(seen) == 5


# --- WeChat's API in trouble.


async def test_a_slow_or_absent_api_keeps_no_event_and_no_page_waiting(tmp_path, stored_in, expect_log):
    async with running(tmp_path, **stored_in) as whole:
        for number, trouble in enumerate(("slow", "down")):
            browser = whole.browser()
            ticket_id = await browser.open_login()
            if trouble == "slow":
                whole.emulator.platform.delay(USER_INFO, 10, times=9)
                whole.emulator.platform.delay(STABLE_TOKEN, 10, times=9)
                whole.emulator.platform.delay(QRCODE_CREATE, 10, times=9)
            else:
                expect_log("did not answer")
                whole.emulator.platform.down = True
            async with browser.socket(ticket_id) as socket:
                assert (await read(socket))["state"] == "WAITING"
                started = time.monotonic()
                outcome = await whole.scan(ticket_id, whole.person((STRANGER, OTHER_STRANGER)[number]))
                assert outcome.attempts[0].seconds < 1
                assert (await read(socket))["state"] == "CONFIRMED"
                assert time.monotonic() - started < 1
                collected = await browser.exchange(ticket_id)
                assert document(collected)["user"]["name"], "a neutral name while none is known"
        # Long enough for the trouble to be logged.
        await asyncio.sleep(0.1)


async def test_an_empty_pool_while_wechat_is_away_shows_so_and_heals(tmp_path, expect_log):
    expect_log("did not answer")
    emulator = Emulator.start(new_account(), timeout=2.0)
    emulator.platform.down = True
    try:
        async with running(tmp_path, emulator=emulator, wechat={"pool_size": 2}) as whole:
            started = time.monotonic()
            page = await whole.browser().get("/login?next=/a")
            assert page.code == 200
            assert time.monotonic() - started < 2
            assert page.headers["Content-Type"].startswith("text/html")
            assert b'data-state="LOADING" data-ticket=""' in page.body
            assert "ticket" not in page.headers.get("Set-Cookie", "").replace("saoma-xsrf", "")
            made = await whole.browser().post("/api/v1/tickets")
            assert (made.code, document(made)["code"]) == (503, "method_unavailable")
            assert (await whole.browser().get("/")).code == 200
            assert (await whole.browser().get("/readyz")).code == 200
            emulator.platform.heal()
            async with asyncio.timeout(8):
                while b'data-state="WAITING"' not in (await whole.browser().get("/login")).body:
                    await asyncio.sleep(0.2)
            await whole.log_in(whole.browser(), whole.person())
    finally:
        await emulator.stop()


async def test_whoever_waits_waits_three_seconds_for_a_slow_wechat(tmp_path):
    async with running(tmp_path, wechat={"pool_size": 0}) as whole:
        whole.emulator.platform.delay(QRCODE_CREATE, 10, times=2)
        started = time.monotonic()
        page = await whole.browser().get("/login?wait=1")
        assert page.code == 503
        assert time.monotonic() - started < 4
        whole.emulator.platform.heal()
        assert (await whole.browser().get("/login")).code == 200


async def test_a_page_waits_for_no_code_that_is_ready(safe):
    safe.emulator.platform.delay(QRCODE_CREATE, 10, times=20)
    started = time.monotonic()
    for _ in range(5):
        await safe.browser().open_login()
    assert time.monotonic() - started < 1.5


async def test_a_profile_appears_later(safe):
    browser, person = safe.browser(), safe.person(2)
    safe.emulator.platform.delay(USER_INFO, 0.5)
    login = await safe.log_in(browser, person)
    assert login["user"]["name"] != "陈默"
    await safe.server.profiles.idle()
    assert document(await browser.get("/api/v1/me"))["name"] == "陈默"
    # It is asked for once a day, however often the person comes.
    calls = safe.emulator.platform.calls[USER_INFO]
    await safe.log_in(safe.browser(), person)
    await safe.server.profiles.idle()
    assert safe.emulator.platform.calls[USER_INFO] == calls
    # And what is known is not erased by a blank.
    safe.emulator.platform.people[person].disclosure = Disclosure.BLANK
    safe.clock.pass_(86_401)
    await safe.log_in(browser, person)
    await safe.server.profiles.idle()
    assert safe.emulator.platform.calls[USER_INFO] == calls + 1
    assert document(await browser.get("/api/v1/me"))["name"] == "陈默"


async def test_a_revoked_token_is_fetched_once_more(tmp_path, expect_log):
    expect_log("40001")
    async with running(tmp_path, wechat={"pool_size": 0}) as whole:
        await whole.browser().open_login()
        whole.emulator.platform.revoke_tokens()
        await asyncio.gather(*(whole.browser().open_login() for _ in range(4)))
        assert whole.emulator.platform.calls[STABLE_TOKEN] == 2


async def test_people_at_once_get_their_own_logins(safe):
    """Thirty people log in at the same time: each gets their own login and nobody another's."""
    people = [safe.emulator.platform.add_person(f"人{number}", following=True).openid for number in range(30)]

    async def one(person: str) -> tuple[str, str]:
        login = await safe.log_in(safe.browser(), person)
        return person, login["user"]["identities"][0]["subject"]

    pairs = await asyncio.gather(*(one(person) for person in people))
    assert [got for _, got in pairs] == people
    assert len((await safe.stored())[0]) == 30
