"""What is no login goes on to the team's own backend, and its reply comes back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from flows import relay
from flows.relay import Relay
from tests.flows.test_deliveries import through
from tests.flows.world import Delegating, World, made
from tests.harness import new_account
from tickets import State
from wechat.callback import Gate, Mode
from wechat.crypto import MessageCrypto
from wechat.replies import SUCCESS, text_reply
from wechat.xml import Writable

TEXT: dict[str, Writable] = {"MsgType": "text", "Content": "你好 & <hello>", "MsgId": 24_000_000_000_000_001}


@dataclass
class Backend:
    """The team's own callback server: what came, and what it answers."""

    url: str
    received: list[tuple[str, bytes, str]]
    answer: Callable[[str, bytes], Any] = lambda query, body: b"success"
    status: int = 200


@asynccontextmanager
async def a_backend() -> AsyncIterator[Backend]:
    sockets = bind_sockets(0, "127.0.0.1")
    backend = Backend(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/own/callback", [])

    class Handler(RequestHandler):
        async def post(self) -> None:
            kind = self.request.headers.get("Content-Type", "")
            backend.received.append((self.request.query, self.request.body, kind))
            answer = backend.answer(self.request.query, self.request.body)
            if asyncio.iscoroutine(answer):
                answer = await answer
            self.set_status(backend.status)
            if 300 <= backend.status < 400:
                self.set_header("Location", "/own/elsewhere")
            self.finish(answer)

    server = HTTPServer(Application([("/own/.*", Handler)], log_function=lambda _: None))
    server.add_sockets(sockets)
    yield backend
    server.stop()
    await server.close_all_connections()


@asynccontextmanager
async def relaying(
    folder, mode: Mode = Mode.SAFE, *, address: str = "{url}", **document: Any
) -> AsyncIterator[tuple[World, Backend]]:
    async with a_backend() as backend:
        url = address.format(url=backend.url)
        wechat = {"forward_url": url, **document.pop("wechat", {})}
        made_relays: list[Relay] = []

        def to_the_backend(gate: Gate) -> Relay:
            made_relays.append(Relay(url, gate, time.time))
            return made_relays[-1]

        async with made(folder, mode=mode, wechat=wechat, relay=to_the_backend, **document) as world:
            yield world, backend
        for one in made_relays:
            one.close()


def replies(world: World, text: str = "from the backend") -> Callable[[str, bytes], bytes]:
    """A backend that knows the account's token and key, as the team's own does."""

    def answer(query: str, body: bytes) -> bytes:
        delivery = world.gate.open(query, body, world.clock())
        reply = text_reply(delivery.message, text, world.clock())
        return world.gate.seal(delivery, reply, world.clock(), os.urandom)

    return answer


EVERY_MODE = pytest.mark.parametrize("mode", list(Mode))


@EVERY_MODE
async def test_a_message_goes_on_unchanged_and_the_reply_comes_back_byte_for_byte(tmp_path, mode: Mode):
    async with relaying(tmp_path, mode) as (world, backend):
        sent: list[bytes] = []
        answer = replies(world)

        def noted(query: str, body: bytes) -> bytes:
            sent.append(answer(query, body))
            return sent[-1]

        backend.answer = noted
        push = replace(world.push(world.person(), TEXT), content_type="text/xml; charset=utf-8")
        given = await world.deliveries.accept(push)
        assert [given] == sent
        assert world.words(given) == "from the backend"
        assert backend.received == [(push.query, push.body, "text/xml; charset=utf-8")]


@pytest.mark.parametrize("answer", [b"", b"success", b" success\n"])
async def test_a_backend_with_nothing_to_say(tmp_path, answer: bytes):
    async with relaying(tmp_path) as (world, backend):
        backend.answer = lambda query, body: answer
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"<html>",
        b"error",
        b"<xml></xml>",
        b"<xml><ToUserName>somebody</ToUserName><MsgType>text</MsgType></xml>",
    ],
    ids=lambda answer: repr(answer[:20]),
)
async def test_an_odd_answer_is_not_passed_back(tmp_path, expect_log, answer: bytes):
    async with relaying(tmp_path) as (world, backend):
        backend.answer = lambda query, body: answer
        expect_log("answered with something that is no reply")
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS


async def test_more_than_a_reply_can_be_is_not_read(tmp_path, expect_log):
    async with relaying(tmp_path) as (world, backend):
        backend.answer = lambda query, body: b"<xml>" + b"<a>b</a>" * 20_000 + b"</xml>"
        expect_log("gives no answer .HTTPStreamClosedError")
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS


async def test_a_reply_in_clear_is_none_in_safe_mode(tmp_path, expect_log):
    async with relaying(tmp_path) as (world, backend):
        expect_log("no reply")

        def in_clear(query: str, body: bytes) -> bytes:
            return text_reply(world.gate.open(query, body, world.clock()).message, "hi", world.clock())

        backend.answer = in_clear
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS


@pytest.mark.parametrize("status", [302, 307, 403, 500])
async def test_another_status_is_no_reply(tmp_path, expect_log, status: int):
    async with relaying(tmp_path) as (world, backend):
        backend.status = status
        backend.answer = replies(world)
        expect_log(f"answered with status {status}")
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS
        assert len(backend.received) == 1, "a redirect is not followed"


async def test_a_late_backend_costs_wechat_no_answer(tmp_path, expect_log, monkeypatch):
    assert relay.ANSWER_SECONDS == 3
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 0.1)
    async with relaying(tmp_path) as (world, backend):

        async def late() -> bytes:
            await asyncio.sleep(0.3)
            return b"success"

        backend.answer = lambda query, body: late()
        expect_log("wechat.forward_url")
        begun = time.monotonic()
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS
        assert time.monotonic() - begun < 0.28
        await asyncio.sleep(0.3)


async def test_a_backend_that_is_down(tmp_path, expect_log):
    async with relaying(tmp_path, address="http://127.0.0.1:1/") as (world, _):
        expect_log("gives no answer .ConnectionRefusedError")
        assert await world.deliveries.accept(world.push(world.person(), TEXT)) == SUCCESS


@EVERY_MODE
async def test_a_redelivery_reaches_the_backend_once(tmp_path, mode: Mode):
    async with relaying(tmp_path, mode) as (world, backend):
        backend.answer = replies(world)
        push = world.push(world.person(), TEXT)
        first = await world.deliveries.accept(push)
        assert await world.deliveries.accept(push) == first
        again = world.push(world.person(), TEXT)
        assert await world.deliveries.accept(again) == first
        assert len(backend.received) == 1


async def test_a_redelivery_during_the_first_reaches_the_backend_once(tmp_path):
    async with relaying(tmp_path) as (world, backend):
        go_on = asyncio.Event()

        async def slow() -> bytes:
            await go_on.wait()
            return b"success"

        backend.answer = lambda query, body: slow()
        push = world.push(world.person(), TEXT)
        tasks = [asyncio.create_task(world.deliveries.accept(push)) for _ in range(3)]
        await asyncio.sleep(0.1)
        go_on.set()
        assert await asyncio.gather(*tasks) == [SUCCESS] * 3
        assert len(backend.received) == 1


async def test_a_delivery_that_could_not_be_marked_is_forwarded_again(tmp_path, expect_log):
    from errors import StoreUnavailable

    class FailsOnce(Delegating):
        calls = 0

        async def transact(self, work):
            self.calls += 1
            if self.calls == 2:  # the mark, after the backend has had it
                raise StoreUnavailable
            return await self.inner.transact(work)

    async with relaying(tmp_path) as (world, backend):
        through(world, FailsOnce(world.context.storage))
        push = world.push(world.person(), TEXT)
        with pytest.raises(StoreUnavailable):
            await world.deliveries.accept(push)
        assert await world.deliveries.accept(push) == SUCCESS
        assert len(backend.received) == 2


async def test_a_login_is_ours_and_not_forwarded(tmp_path):
    async with relaying(tmp_path) as (world, backend):
        held = await world.ticket()
        assert "logged in" in await world.scan(held, world.person())
        assert (await world.stored(held)).state is State.CONFIRMED
        assert backend.received == []


@pytest.mark.parametrize("key", ["shop-42", "0", "A" * 23])
async def test_another_code_of_the_account_is_the_teams_own(tmp_path, key: str):
    async with relaying(tmp_path) as (world, backend):
        backend.answer = replies(world)
        fields = {"MsgType": "event", "Event": "SCAN", "EventKey": key, "Ticket": "gQ"}
        assert await world.deliver(world.person(), fields) == "from the backend"
        assert len(backend.received) == 1


async def test_a_follow_is_both_ours_and_theirs(tmp_path):
    async with relaying(tmp_path, wechat={"welcome": "Welcome!"}) as (world, backend):
        backend.answer = replies(world)
        assert await world.follow(world.person()) == "from the backend", "theirs, where they have one"
        assert (await world.user()).identities[0].following
        await world.unfollow(world.person())
        assert not (await world.user()).identities[0].following
        assert len(backend.received) == 2


async def test_a_welcome_of_ours_stays_the_answer_on_redelivery(tmp_path):
    async with relaying(tmp_path, wechat={"welcome": "Welcome!"}) as (world, backend):
        push = world.push(world.person(), {"MsgType": "event", "Event": "subscribe", "EventKey": ""})
        first = await world.deliveries.accept(push)
        assert world.words(first) == "Welcome!"
        assert await world.deliveries.accept(push) == first
        assert len(backend.received) == 1


async def test_an_address_with_a_query_keeps_it(tmp_path):
    async with relaying(tmp_path, address="{url}?team=a") as (world, backend):
        push = world.push(world.person(), TEXT)
        await world.deliveries.accept(push)
        assert backend.received[0][0] == f"team=a&{push.query}"


async def test_no_log_line_has_a_query_a_secret_or_a_person(tmp_path, expect_log, caplog):
    async with relaying(tmp_path) as (world, backend):
        expect_log("forward_url")
        push = world.push(world.person(), TEXT)
        backend.status = 500
        await world.deliveries.accept(push)
        backend.status = 200
        backend.answer = lambda query, body: b"no"
        await world.deliveries.accept(world.push(world.person(), {**TEXT, "MsgId": 2}))
        for secret in (push.query, "signature=", world.account.token, world.person(), "127.0.0.1"):
            assert secret not in caplog.text


# --- the gate's part --------------------------------------------------------------------------------------


def rotating() -> tuple[Gate, Gate, Gate]:
    """A gate amid a change of token and key, and one for each side of it."""
    old, new = new_account(), new_account()
    gates = [
        Gate(Mode.SAFE, (account.token,), (MessageCrypto(account.encoding_aes_key, "wx1"),), 300)
        for account in (new, old)
    ]
    both = Gate(Mode.SAFE, (new.token, old.token), gates[0].cryptos + gates[1].cryptos, 300)
    return both, gates[0], gates[1]


@pytest.mark.parametrize("spoilt", ["token", "key", "both"])
async def test_while_token_and_key_change_a_reply_is_made_with_those_of_its_push(world: World, spoilt: str):
    """WeChat has changed to the new ones or it has not: it takes no others than it used."""
    both, new, old = rotating()
    account = replace(world.account, appid="wx1", token=new.tokens[0])
    world.platform.account = account
    crypto = new.cryptos[0]
    world.courier._crypto = lambda: crypto  # type: ignore[method-assign]
    push = world.push(world.person(), TEXT)
    delivery = both.open(push.query, push.body, world.clock())
    right = both.seal(delivery, text_reply(delivery.message, "hi", world.clock()), world.clock(), os.urandom)
    assert both.is_reply(delivery, right)
    other = replace(
        delivery,
        token=old.tokens[0] if spoilt != "key" else delivery.token,
        crypto=old.cryptos[0] if spoilt != "token" else delivery.crypto,
    )
    wrong = both.seal(other, text_reply(delivery.message, "hi", world.clock()), world.clock(), os.urandom)
    assert both.is_reply(other, wrong)
    assert not both.is_reply(delivery, wrong)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("reply", [b"", SUCCESS])
async def test_success_and_nothing_are_never_sealed(tmp_path, mode: Mode, reply: bytes):
    async with made(tmp_path, mode=mode) as world:
        push = world.push(world.person(), TEXT)
        delivery = world.gate.open(push.query, push.body, world.clock())
        assert world.gate.seal(delivery, reply, world.clock(), os.urandom) == reply
