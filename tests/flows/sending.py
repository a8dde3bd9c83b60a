"""Sites that are told of what happens, and the sender that tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from flows.announce import announce
from flows.outbox import Outbox
from storage.records import Notice
from storage.ringing import RingingStorage
from tests.flows.world import World, made
from tests.receiver import LOOPBACK, SECRET, Receiver
from webhooks import GIVE_UP_SECONDS

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


async def states_are(world: World, **expected: int) -> bool:
    return await states(world) == Counter(expected)


async def tried(world: World, attempts: int) -> bool:
    return sum(notice.attempts for notice in await notices(world)) == attempts
