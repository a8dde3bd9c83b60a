"""What was announced is sent: at least once, one person's in order, for a day."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

import outbound
from flows import outbox
from flows.outbox import PARALLEL, Outbox
from tests.flows.sending import (
    DAY,
    causes,
    happened,
    no_token,
    notices,
    selling,
    sending,
    site,
    states,
    states_are,
    tried,
)
from tests.flows.world import Delegating, until
from tests.receiver import OLD_SECRET, SECRET, Receiver, receiving
from webhooks import schedule

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
