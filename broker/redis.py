"""Several processes: wake-ups go over Redis's pub/sub, each node wakes its own waiters.

One channel for all tickets. Whatever is lost costs a delay: all waiters look again after each reconnect, and
every two seconds while Redis is away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from functools import partial
from typing import Any

from redis.exceptions import RedisError

import background
from broker import base
from broker.base import Wake
from broker.local import LocalBroker
from storage.redis_client import Client

CHANNEL = "saoma:changed"
LOOK_AGAIN_SECONDS = 2.0  # between two looks of everybody while Redis is away
RECONNECT_SECONDS = 0.5
PUBLISH_TRIES = 10
SILENCE_SECONDS = 10.0  # without anything to read, the connection is tried

log = logging.getLogger("saoma.broker")


class RedisBroker(base.Broker):
    def __init__(self, client: Client, node: str) -> None:
        """`node` names this process among its like; what it says itself it need not hear."""
        self._client = client
        self._node = node
        self._local = LocalBroker()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._away = False
        self._stopped = False

    def start(self) -> None:
        self._later(self._listen())

    async def stop(self) -> None:
        self._stopped = True
        await background.end(self._tasks)

    def subscribe(self, ticket_id: str, wake: Wake) -> None:
        self._local.subscribe(ticket_id, wake)

    def unsubscribe(self, ticket_id: str, wake: Wake) -> None:
        self._local.unsubscribe(ticket_id, wake)

    async def publish(self, ticket_id: str) -> None:
        await self._local.publish(ticket_id)  # our own need no Redis
        self._tell(ticket_id).add_done_callback(partial(self._told, ticket_id))

    @property
    def waiting(self) -> int:
        return self._local.waiting

    @property
    def tickets(self) -> int:
        return self._local.tickets

    def _tell(self, ticket_id: str) -> asyncio.Future[Any]:
        return self._client.ask("PUBLISH", CHANNEL, f"{self._node} {ticket_id}")

    def _told(self, ticket_id: str, telling: asyncio.Future[Any]) -> None:
        if telling.exception() is not None and not self._stopped:
            self._later(self._publish_later(ticket_id))

    async def _publish_later(self, ticket_id: str) -> None:
        for _ in range(PUBLISH_TRIES):
            await asyncio.sleep(RECONNECT_SECONDS)
            try:
                await self._tell(ticket_id)
            except (RedisError, OSError):
                continue
            return

    async def _listen(self) -> None:
        while True:
            try:
                await self._receive()
            except (RedisError, OSError, TimeoutError) as error:
                self._gone(error)
            await asyncio.sleep(RECONNECT_SECONDS * random.uniform(0.5, 1.5))

    async def _receive(self) -> None:
        """Reads wake-ups until the connection breaks."""
        async with self._client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            clock, tried = asyncio.get_running_loop().time, False
            while True:
                asked = clock()
                message = await channel.get_message(timeout=SILENCE_SECONDS)
                if message is None:  # nothing came, or an answer to redis-py's own ping
                    if tried and clock() >= asked + SILENCE_SECONDS:
                        raise RedisError("it does not answer")
                    await channel.ping()
                    tried = True
                    continue
                tried = False
                if message["type"] == "subscribe":
                    self._back()
                elif message["type"] == "message":
                    node, _, ticket_id = message["data"].decode("utf-8", "replace").partition(" ")
                    if node != self._node:
                        await self._local.publish(ticket_id)

    def _gone(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("Redis is away (%s); waiting pages look again by themselves", error)
            if self._looking is None or self._looking.done():
                self._looking = self._later(self._look_again())

    def _later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _back(self) -> None:
        """Subscribed (again): whatever was said meanwhile was not heard."""
        if self._away:
            self._away = False
            log.warning("Redis is back")
        self._local.wake_all()

    async def _look_again(self) -> None:
        while self._away:
            self._local.wake_all()
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
