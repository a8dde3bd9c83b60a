"""One process: the in-memory map of waiters."""

from __future__ import annotations

from broker import base
from broker.base import Wake


class LocalBroker(base.Broker):
    def __init__(self) -> None:
        self._waiters: dict[str, tuple[Wake, ...]] = {}  # nearly always of one
        self._waiting = 0

    def subscribe(self, ticket_id: str, wake: Wake) -> None:
        self._waiters[ticket_id] = (*self._waiters.get(ticket_id, ()), wake)
        self._waiting += 1

    def unsubscribe(self, ticket_id: str, wake: Wake) -> None:
        waiters = list(self._waiters.get(ticket_id, ()))
        if wake not in waiters:
            return
        waiters.remove(wake)
        self._waiting -= 1
        if waiters:
            self._waiters[ticket_id] = tuple(waiters)
        else:
            del self._waiters[ticket_id]

    async def publish(self, ticket_id: str) -> None:
        for wake in self._waiters.get(ticket_id, ()):
            wake()

    def wake_all(self) -> None:
        """Everybody looks again."""
        for waiters in tuple(self._waiters.values()):
            for wake in waiters:
                wake()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def tickets(self) -> int:
        return len(self._waiters)
