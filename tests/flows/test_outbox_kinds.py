"""What else is sent: logouts and tests; and the list of all."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from errors import BadRequest, NotFound, StoreUnavailable
from flows import outbox
from flows.outbox import LEASE_SECONDS, Outbox
from storage.records import Notice
from tests.flows.sending import DAY, happened, no_token, notices, selling, sending, site, states_are, tried
from tests.flows.world import World, until
from tests.receiver import receiving

LOGOUT = {"id": "shop", "name": "Shop", "secret": "s" * 32}


async def logged_out(world: World) -> None:
    notice = Notice(
        endpoint="logout:shop",
        id="msg_1",
        person="u1",
        event="logout",
        payload=json.dumps({"sub": "u1", "sid": "s1"}),
        created_at=world.clock(),
        due_at=world.clock(),
        expires_at=world.clock() + DAY,
    )
    await world.do(lambda transaction: transaction.outbox.add(notice))


async def test_a_logout_brings_a_token_made_when_it_is_sent(tmp_path):
    made_of: list[tuple[str, ...]] = []

    async def logout_token(site, sub, sid, jti) -> str:
        made_of.append((site.id, sub, sid, jti))
        return f"a.token.{len(made_of)}"

    answers = iter([400, 200])
    async with receiving(lambda message: next(answers)) as receiver:
        shop = {**LOGOUT, "backchannel_logout_uri": f"{receiver.url}/logout"}
        async with selling(tmp_path, shop) as world, sending(world, logout_token) as sender:
            await logged_out(world)
            await until(lambda: tried(world, 1))
            world.clock.pass_(5)
            sender.wake("logout:shop")
            first, second = await receiver.has(2)
            await until(lambda: states_are(world, delivered=1))
    assert made_of == [("shop", "u1", "s1", "msg_1")] * 2
    assert [message.form for message in (first, second)] == [
        {"logout_token": "a.token.1"},
        {"logout_token": "a.token.2"},
    ]
    assert first.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert first.path == "/hook/logout"
    assert "Webhook-Signature" not in first.headers


async def test_keys_that_cannot_be_read_just_now_are_no_failed_attempt(tmp_path):
    keys_away = True

    async def logout_token(site, sub, sid, jti) -> str:
        if keys_away:
            raise StoreUnavailable
        return "a.token"

    async with receiving() as receiver:
        shop = {**LOGOUT, "backchannel_logout_uri": receiver.url}
        async with selling(tmp_path, shop) as world, sending(world, logout_token) as sender:
            await logged_out(world)
            await asyncio.sleep(0.05)
            assert await tried(world, 0)
            keys_away = False
            world.clock.pass_(LEASE_SECONDS)
            sender.wake("logout:shop")
            await until(lambda: states_are(world, delivered=1))


async def test_a_fault_of_ours_is_told_and_is_not_for_ever(tmp_path, expect_log):
    expect_log("msg_1 could not be sent to logout:shop")

    async def logout_token(site, sub, sid, jti) -> str:
        raise RuntimeError("a fault")

    async with receiving() as receiver:
        shop = {**LOGOUT, "backchannel_logout_uri": receiver.url}
        async with selling(tmp_path, shop) as world, sending(world, logout_token):
            await logged_out(world)
            await until(lambda: tried(world, 1))
            (notice,) = await notices(world)
            assert (notice.state, notice.result) == ("pending", "a fault of ours: see the log")


# --- Tests, and the list.


async def test_a_test_is_sent_at_once_and_tells_how_it_went(tmp_path):
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        sender = Outbox(world.context, no_token)
        notice = await sender.test("shop")
        assert (notice.state, notice.result) == ("delivered", "204")
        assert (receiver.received[0].event, receiver.received[0].id) == ("test", notice.id)
        assert await notices(world) == [notice]
        await sender.stop()


async def test_a_test_is_sent_once_though_a_sender_is_at_work(tmp_path):
    async def slow(message):
        await asyncio.sleep(0.1)
        return 204

    async with receiving(slow) as receiver, selling(tmp_path, site(receiver)) as world:
        async with sending(world) as sender:
            assert (await sender.test("shop")).state == "delivered"
            await asyncio.sleep(0.05)
        assert receiver.events == ["test"]


async def test_a_test_that_fails_is_repeated_like_anything_else(tmp_path):
    status = 503
    async with (
        receiving(lambda message: status) as receiver,
        selling(tmp_path, site(receiver)) as world,
        sending(world) as sender,
    ):
        tests = [await sender.test("shop"), await sender.test("shop")]
        assert [(notice.state, notice.result) for notice in tests] == [("pending", "503")] * 2
        world.clock.pass_(5)
        sender.wake("webhook:shop")
        await receiver.has(4)
        await until(lambda: tried(world, 4))
        assert len({message.id for message in receiver.received}) == 2, "neither waits for the other"


async def test_a_test_waits_for_nobodys_news(tmp_path):
    async with (
        receiving(lambda message: 204 if message.event == "test" else 500) as receiver,
        selling(tmp_path, site(receiver)) as world,
        sending(world) as sender,
    ):
        await happened(world, *map(str, range(20)))
        assert (await sender.test("shop")).state == "delivered"


@pytest.mark.parametrize(
    ("site_id", "error", "words"),
    [
        ("nobody", NotFound, "there is no site nobody in the settings"),
        ("quiet", BadRequest, "the site quiet has no webhook_url"),
    ],
)
async def test_a_test_of_a_site_that_has_none(tmp_path, site_id, error, words):
    async with selling(tmp_path, {**LOGOUT, "id": "quiet"}) as world:
        sender = Outbox(world.context, no_token)
        with pytest.raises(error, match=words):
            await sender.test(site_id)
        assert not await notices(world)
        await sender.stop()


async def test_the_list_is_of_all_sites_or_of_one(tmp_path):
    async with receiving() as receiver:
        both = site(receiver, backchannel_logout_uri=receiver.url), site(receiver, "other")
        async with selling(tmp_path, *both) as world:
            await happened(world, "a")
            world.clock.pass_(1)
            await logged_out(world)

            async def listed(site_id, limit=50):
                found = await outbox.newest(world.context, site_id=site_id, limit=limit)
                return [(notice.endpoint, notice.event) for notice in found]

            ours = [("logout:shop", "logout"), ("webhook:shop", "user.updated")]
            assert await listed("shop") == ours
            assert await listed("shop", limit=1) == ours[:1]
            assert await listed("other") == [("webhook:other", "user.updated")]
            assert Counter(await listed(None)) == Counter([*ours, ("webhook:other", "user.updated")])
