"""It is written down in the same work as what happened, and once; and costs nothing where nobody listens."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from errors import StoreUnavailable
from flows import people, sessions
from tests.flows.announcements.told import LOGS_OUT, so_far, told
from tests.flows.world import Delegating, World, made

# --- Cut off in the middle.


class Piecewise(Delegating):
    """As MongoDB without transactions: each call is atomic by itself, and one of them fails."""

    def __init__(self, inner, fails_at: int, *, afterwards: bool) -> None:
        super().__init__(inner)
        self.left = fails_at
        self.afterwards = afterwards

    async def transact(self, work):
        store = self

        class Collection:
            def __init__(self, name: str) -> None:
                self.name = name

            def __getattr__(self, method: str):
                async def call(*arguments, **more):
                    store.left -= 1
                    if store.left == 0 and not store.afterwards:
                        raise StoreUnavailable

                    async def one(transaction):
                        return await getattr(getattr(transaction, self.name), method)(*arguments, **more)

                    result = await store.inner.transact(one)
                    if store.left == 0:
                        raise StoreUnavailable
                    return result

                return call

        class Transaction:
            def __getattr__(self, name: str) -> Collection:
                return Collection(name)

        return await work(Transaction())


async def follow(world: World, openid: str):
    pushed = world.push(openid, {"MsgType": "event", "Event": "subscribe", "EventKey": ""})
    return lambda _: world.deliveries.accept(pushed), ["user.created", "user.followed"]


async def leave(world: World, openid: str):
    await world.logged_in(openid)
    world.clock.pass_(2)
    pushed = world.push(openid, {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""})
    return lambda _: world.deliveries.accept(pushed), ["user.unfollowed", "session.ended"]


async def forget(world: World, openid: str):
    user = (await world.logged_in(openid)).user
    return lambda context: people.forget(context, user.id), ["session.ended", "user.deleted"]


async def log_out(world: World, openid: str):
    await world.logged_in(openid)
    (session,) = await world.live_sessions(openid)
    return lambda context: sessions.end(context, session), ["session.ended"]


@pytest.mark.parametrize("afterwards", [False, True])
@pytest.mark.parametrize("case", [follow, leave, forget, log_out])
async def test_what_is_cut_off_anywhere_and_done_again_is_told_once(world, case, afterwards):
    whole = world.context
    for fails_at in itertools.count(1):
        openid = world.platform.add_person(f"{fails_at}", following=True).openid
        before = await so_far(world)
        act, expected = await case(world, openid)
        already = await so_far(world) - before
        store = Piecewise(whole.storage, fails_at, afterwards=afterwards)
        context = world.deliveries._context = replace(whole, storage=store)
        try:
            await act(context)
        except StoreUnavailable:
            await act(context)
        else:
            break
        finally:
            world.deliveries._context = whole
        assert [event for event, _ in (await told(world))[before + already :]] == expected
    assert fails_at > len(expected), "each of the announcements has been cut off, too"


# --- Nobody listens.


async def test_where_no_site_listens_nobody_is_looked_up_for_it(tmp_path):
    async with made(tmp_path, sites=[LOGS_OUT]) as world:
        await world.follow(world.person())
        asked: list[str] = []

        class Counting(Delegating):
            async def transact(self, work):
                async def counted(transaction):
                    class Users:
                        def __getattr__(self, name):
                            asked.append(name)
                            return getattr(transaction.users, name)

                    class Transaction:
                        users, outbox = Users(), None

                        def __getattr__(self, name):
                            return getattr(transaction, name)

                    return await work(Transaction())

                return await self.inner.transact(counted)

        world.deliveries._context = replace(world.context, storage=Counting(world.context.storage))
        await world.confirmed()
        assert asked == ["upsert_identity"]
