"""What was announced is sent: at least once, one person's in order, for a day."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import outbound
from errors import BadRequest, NotFound, StoreUnavailable
from flows import outbox
from flows.announce import announce
from flows.outbox import LEASE_SECONDS, PARALLEL, Outbox
from storage.records import Notice
from storage.ringing import RingingStorage
from tests.flows.world import Delegating, World, made, until
from tests.receiver import LOOPBACK, OLD_SECRET, SECRET, Receiver, receiving
from webhooks import GIVE_UP_SECONDS, schedule

DAY = GIVE_UP_SECONDS


def site(receiver: Receiver, site_id: str = "shop", **more: Any) -> dict[str, Any]:
    own = {"id": site_id, "name": site_id, "secret": "s" * 32}
    return {**own, "webhook_url": receiver.url, "webhook_secret": SECRET, **more}


@asynccontextmanager
async def selling(tmp_path, *sites: dict[str, Any], **document: Any) -> AsyncIterator[World]:
    """A world with these sites on loopback."""
    async with made(tmp_path, sites=list(sites), **{"server": LOOPBACK, **document}) as world:
        yield world


async def no_token(site, sub, sid, jti) -> str:
    raise AssertionError("nobody logs out here")


@asynccontextmanager
async def sending(world: World, logout_token=no_token) -> AsyncIterator[Outbox]:
    """A sender that hears of what is added through `world.context`."""
    sender = Outbox(world.context, logout_token)
    sender.start()
    inner = world.context.storage
    world.context = replace(world.context, storage=RingingStorage(inner, sender.wake))
    try:
        yield sender
    finally:
        world.context = replace(world.context, storage=inner)
        await sender.stop()


async def happened(world: World, *causes: str, person: str = "", event: str = "user.updated") -> None:
    """Announces the event for each cause, in this order."""
    for cause in causes:
        world.clock.pass_(0.001)

        async def work(transaction, cause=cause):
            data, whose = {"cause": cause}, person or cause
            await announce(transaction, world.context, event, data, person=whose, cause=cause)

        await world.do(work)


async def notices(world: World) -> list[Notice]:
    return list(await world.do(lambda transaction: transaction.outbox.newest(limit=200)))


async def states(world: World) -> Counter[str]:
    return Counter(notice.state for notice in await notices(world))


def causes(receiver: Receiver) -> list[str]:
    return [message.data["cause"] for message in receiver.received]


# --- Delivered.


async def test_what_happened_is_told_and_signed(tmp_path):
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world, sending(world):
        await happened(world, "renamed")
        (message,) = await receiver.has(1)
        await until(lambda: states_are(world, delivered=1))
        (notice,) = await notices(world)
    stamped = message.headers["Webhook-Timestamp"]
    assert (message.event, message.data) == ("user.updated", {"cause": "renamed"})
    assert (message.headers["Content-Type"], stamped) == ("application/json", str(int(world.clock())))
    assert (notice.id, notice.result, notice.attempts) == (message.id, "204", 1)


async def states_are(world: World, **expected: int) -> bool:
    return await states(world) == Counter(expected)


async def test_it_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 60)
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world, sending(world):
        await asyncio.sleep(0.05)  # the sender has found nothing and sleeps
        await happened(world, "a")
        await receiver.has(1, seconds=5)


async def test_what_another_process_added_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.05)
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        sender = Outbox(world.context, no_token)
        sender.start()
        await asyncio.sleep(0.02)
        await happened(world, "a")
        await receiver.has(1)
        await sender.stop()


async def test_each_site_hears_what_it_wants_to(tmp_path):
    async with receiving() as all_of_it, receiving() as logins:
        sites = site(all_of_it), site(logins, "other", webhook_events=["login.succeeded"])
        async with selling(tmp_path, *sites) as world, sending(world):
            await happened(world, "a")
            await happened(world, "b", event="login.succeeded")
            await all_of_it.has(2)
            assert (await logins.has(1))[0].event == "login.succeeded"
            await until(lambda: states_are(world, delivered=3))


async def test_no_site_that_listens_costs_nothing(tmp_path):
    class Untouched(Delegating):
        async def transact(self, work):
            async def watched(transaction):
                class Transaction:
                    outbox = None  # an attempt to use it fails

                    def __getattr__(self, name):
                        return getattr(transaction, name)

                return await work(Transaction())

            return await self.inner.transact(watched)

    quiet = {"id": "shop", "name": "Shop", "secret": "s" * 32}
    async with selling(tmp_path, quiet) as world:
        world.context = replace(world.context, storage=Untouched(world.context.storage))
        await happened(world, "a")


# --- Not delivered, and tried again.


async def test_it_is_kept_while_the_other_side_is_away(tmp_path):
    receiver = Receiver()
    receiver.start()
    await receiver.stop()
    async with selling(tmp_path, site(receiver)) as world, sending(world) as sender:
        await happened(world, "a", "b")
        await until(lambda: tried(world, 2))
        assert {notice.result for notice in await notices(world)} == {"connection refused"}
        receiver.start()
        world.clock.pass_(5)
        sender.wake("webhook:shop")
        await until(lambda: states_are(world, delivered=2))
        assert sorted(causes(receiver)) == ["a", "b"]
        await receiver.stop()


async def tried(world: World, attempts: int) -> bool:
    return sum(notice.attempts for notice in await notices(world)) == attempts


@pytest.mark.parametrize(
    ("status", "result"),
    [(500, "500"), (404, "404"), (410, "410"), (302, "302: redirects are not followed")],
)
async def test_an_answer_that_is_no_success_is_none(tmp_path, status, result):
    answers = iter([status, 204])
    async with (
        receiving(lambda message: next(answers)) as receiver,
        selling(tmp_path, site(receiver)) as world,
        sending(world) as sender,
    ):
        await happened(world, "a")
        await until(lambda: tried(world, 1))
        (notice,) = await notices(world)
        assert (notice.state, notice.result) == ("pending", result)
        assert 4 <= notice.due_at - world.clock() <= 5
        world.clock.pass_(5)
        sender.wake("webhook:shop")
        first, second = await receiver.has(2)
        assert first.id == second.id, "so that whoever has had it knows"
        assert second.headers["Webhook-Timestamp"] > first.headers["Webhook-Timestamp"]
        assert second.body == first.body


async def test_who_is_too_slow_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(outbound, "ANSWER_SECONDS", 0.1)
    stuck = asyncio.Event()

    async def never(message):
        await stuck.wait()
        return 204

    async with receiving(never) as receiver, selling(tmp_path, site(receiver)) as world, sending(world):
        await happened(world, "a")
        await until(lambda: tried(world, 1))
        assert (await notices(world))[0].result == "timeout"
        stuck.set()


async def test_it_is_tried_again_when_its_time_has_come(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 60)
    monkeypatch.setattr(schedule, "FIRST_SECONDS", 0.05)
    answers = iter([500, 500, 204])
    async with (
        receiving(lambda message: next(answers)) as receiver,
        selling(tmp_path, site(receiver)) as world,
    ):
        world.context = replace(world.context, now=time.time)
        async with sending(world):
            await happened(world, "a")
            await receiver.has(3)


async def test_after_a_day_it_is_given_up(tmp_path, expect_log):
    expect_log(r"gave up telling user.updated \(msg_[0-9a-f]{32}\) to webhook:shop after 3 attempts: 503")
    async with (
        receiving(lambda message: 503) as receiver,
        selling(tmp_path, site(receiver)) as world,
        sending(world) as sender,
    ):
        await happened(world, "a")
        for attempts, later in enumerate([5, DAY - 10], start=1):
            while not await tried(world, attempts):
                await asyncio.sleep(0.005)
            world.clock.pass_(later)
            sender.wake("webhook:shop")
        await until(lambda: states_are(world, failed=1))
        (notice,) = await notices(world)
        assert notice.expires_at == world.clock() + 7 * DAY, "kept, so that somebody can see it"
        world.clock.pass_(3600)
        sender.wake("webhook:shop")
        await asyncio.sleep(0.05)
        assert len(receiver.received) == 3
        counted = world.context.metrics.text().decode()
        assert 'saoma_notices_total{kind="webhook",outcome="retried"} 2.0' in counted
        assert 'saoma_notices_total{kind="webhook",outcome="failed"} 1.0' in counted


# --- In order.


async def test_one_persons_stay_in_order_whatever_fails(tmp_path):
    failures = Counter({"a1": 2, "a3": 1, "b2": 1})

    def answer(message):
        failures.subtract([message.data["cause"]])
        return 500 if failures[message.data["cause"]] >= 0 else 204

    async with receiving(answer) as receiver, selling(tmp_path, site(receiver)) as world:
        for number in range(1, 5):
            await happened(world, f"a{number}", person="a")
            await happened(world, f"b{number}", person="b")
        async with sending(world) as sender:
            while await states(world) != {"delivered": 8}:
                world.clock.pass_(1)
                sender.wake("webhook:shop")
                await asyncio.sleep(0.005)
    for person, expected in (("a", "a1 a1 a1 a2 a3 a3 a4"), ("b", "b1 b2 b2 b3 b4")):
        assert [cause for cause in causes(receiver) if cause[0] == person] == expected.split()


async def test_a_person_whose_news_fail_holds_up_nobody_else(tmp_path):
    async with (
        receiving(lambda message: 500 if message.data["cause"] == "a" else 204) as receiver,
        selling(tmp_path, site(receiver)) as world,
        sending(world),
    ):
        await happened(world, "a", "after", person="unlucky")
        await happened(world, *map(str, range(20)))
        await until(lambda: states_are(world, delivered=20, pending=2))
        assert "after" not in causes(receiver)


async def test_several_peoples_are_sent_at_once_and_no_more_than_that(tmp_path):
    arrived, most, gate = 0, 0, asyncio.Event()

    async def answer(message):
        nonlocal arrived, most
        arrived += 1
        most = max(most, arrived)
        await gate.wait()
        arrived -= 1
        return 204

    async with receiving(answer) as receiver:
        other = site(receiver, "other", webhook_events=["user.deleted"])  # for which calls are kept free
        async with selling(tmp_path, site(receiver), other) as world:
            await happened(world, *map(str, range(3 * PARALLEL)))
            async with sending(world):
                await until(lambda: arrived >= PARALLEL)
                await asyncio.sleep(0.05)
                gate.set()
                await until(lambda: states_are(world, delivered=3 * PARALLEL))
    assert most == PARALLEL


async def test_an_endpoint_that_is_stuck_holds_up_no_other(tmp_path):
    stuck = asyncio.Event()

    async def never(message):
        await stuck.wait()
        return 204

    async with (
        receiving(never) as slow,
        receiving() as quick,
        selling(tmp_path, site(slow, "slow"), site(quick, "quick")) as world,
        sending(world),
    ):
        await happened(world, *map(str, range(50)))
        await quick.has(50)
        assert len(slow.received) <= PARALLEL
        stuck.set()


# --- Secrets.


async def test_while_secrets_rotate_both_sign(tmp_path):
    async with (
        receiving() as receiver,
        selling(tmp_path, site(receiver, previous_webhook_secret=OLD_SECRET)) as world,
        sending(world) as sender,
    ):
        world.clock.seconds = time.time()
        sender.wake("webhook:shop")
        await happened(world, "a")
        (message,) = await receiver.has(1)
        assert message.verified(SECRET) == message.verified(OLD_SECRET) == message.document


# --- Places that are not for us.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"])
async def test_a_private_address_is_refused_unless_the_settings_allow_it(tmp_path, host):
    async with receiving() as receiver:
        inside = site(receiver, webhook_url=f"http://{host}:{receiver.port}/hook")
        async with selling(tmp_path, inside, server={}) as world, sending(world):
            await happened(world, "a")
            await until(lambda: tried(world, 1))
            (notice,) = await notices(world)
            assert notice.result == "refused: private address; see server.allowed_networks"
            assert notice.state == "pending", "the settings may be mended within the day"
        assert not receiver.received


# --- More senders, and senders that die.


async def test_two_senders_never_send_the_same(tmp_path):
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        await happened(world, *map(str, range(100)))
        async with sending(world), sending(world):
            await happened(world, *map(str, range(100, 150)))
            await until(lambda: states_are(world, delivered=150))
        assert Counter(causes(receiver)) == Counter(map(str, range(150)))


async def test_what_a_sender_had_in_hand_when_it_died_is_sent_by_another(tmp_path):
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        await happened(world, "a", "b", person="a")
        await world.do(
            lambda transaction: transaction.outbox.claim(
                "webhook:shop", now=world.clock(), until=world.clock() + LEASE_SECONDS, limit=8
            )
        )
        async with sending(world) as sender:
            await asyncio.sleep(0.05)
            assert not receiver.received, "it may still be at it"
            world.clock.pass_(LEASE_SECONDS)
            sender.wake("webhook:shop")
            await until(lambda: states_are(world, delivered=2))
        assert causes(receiver) == ["a", "b"]


async def test_a_sender_that_stops_lets_calls_end(tmp_path):
    async def slow(message):
        await asyncio.sleep(0.2)
        return 204

    async with receiving(slow) as receiver, selling(tmp_path, site(receiver)) as world:
        async with sending(world):
            await happened(world, "a")
            await receiver.has(1)
        assert await states_are(world, delivered=1)


async def test_a_sender_that_stops_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "FINISH_SECONDS", 0.05)
    stuck = asyncio.Event()

    async def never(message):
        await stuck.wait()
        return 204

    async with receiving(never) as receiver, selling(tmp_path, site(receiver)) as world:
        async with asyncio.timeout(5):
            async with sending(world):
                await happened(world, "a")
                await receiver.has(1)
        (notice,) = await notices(world)
        assert (notice.state, notice.attempts) == ("pending", 0), "it goes again when its lease is over"
        stuck.set()


class Failing(Delegating):
    """A store that is away for so many calls, each before or after it has had its effect."""

    def __init__(self, inner, times: int, *, afterwards: bool = False) -> None:
        super().__init__(inner)
        self.times = times
        self.afterwards = afterwards

    async def transact(self, work):
        if self.times and not self.afterwards:
            self.times -= 1
            raise StoreUnavailable
        result = await self.inner.transact(work)
        if self.times:
            self.times -= 1
            raise StoreUnavailable
        return result


@pytest.mark.parametrize("afterwards", [False, True])
async def test_a_store_that_was_away_is_asked_again(tmp_path, monkeypatch, afterwards):
    monkeypatch.setattr(outbox, "LOOK_SECONDS", 0.01)
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        await happened(world, "a")
        store = Failing(world.context.storage, 3, afterwards=afterwards)
        sender = Outbox(replace(world.context, storage=store), no_token)
        sender.start()
        await until(lambda: not store.times)
        world.clock.pass_(LEASE_SECONDS)  # of what was claimed and not heard of
        await receiver.has(1)
        await until(lambda: states_are(world, delivered=1))
        await sender.stop()


async def test_what_could_not_be_noted_as_delivered_goes_again_under_its_name(tmp_path):
    async with receiving() as receiver, selling(tmp_path, site(receiver)) as world:
        await happened(world, "a")
        store = Failing(world.context.storage, 0)
        sender = Outbox(replace(world.context, storage=store), no_token)

        def answer(message):
            store.times = 1 if len(receiver.received) == 1 else 0
            return 204

        receiver.answer = answer
        sender.start()
        await receiver.has(1)
        await until(lambda: not store.times)
        world.clock.pass_(LEASE_SECONDS)
        sender.wake("webhook:shop")
        first, second = await receiver.has(2)
        assert first.id == second.id
        await until(lambda: states_are(world, delivered=1))
        await sender.stop()


# --- Logout.


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
