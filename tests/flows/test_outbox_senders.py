"""Several senders, and senders that stop, die or lose their store: nothing gets lost by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from errors import StoreUnavailable
from flows import outbox
from flows.outbox import LEASE_SECONDS, Outbox
from tests.flows.sending import causes, happened, no_token, notices, selling, sending, site, states_are
from tests.flows.world import Delegating, until
from tests.receiver import receiving


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
