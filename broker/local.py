"""One process: the in-memory map of waiters."""

from __future__ import annotations

from collections.abc import Callable

from broker import base
from broker.base import Wake


class LocalBroker(base.Broker):
    def __init__(self) -> None:
        self._waiters: dict[str, list[Wake]] = {}
        self._waiting = 0

    async def subscribe(self, ticket_id: str, wake: Wake) -> Callable[[], None]:
        self._waiters.setdefault(ticket_id, []).append(wake)
        self._waiting += 1
        subscribed = True

        def unsubscribe() -> None:
            nonlocal subscribed
            if not subscribed:
                return
            subscribed = False
            self._waiting -= 1
            waiters = self._waiters[ticket_id]
            waiters.remove(wake)
            if not waiters:
                del self._waiters[ticket_id]

        return unsubscribe

    async def publish(self, ticket_id: str) -> None:
        for wake in tuple(self._waiters.get(ticket_id, ())):
            wake()

    def wake_all(self) -> None:
        """Everybody looks again."""
        for waiters in tuple(self._waiters.values()):
            for wake in tuple(waiters):
                wake()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def tickets(self) -> int:
        return len(self._waiters)
