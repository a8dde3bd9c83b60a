"""The written contract of every broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

Wake = Callable[[], None]


class Broker(ABC):
    """A wake-up says "look again", nothing else. Subscribe first, then read, and no change is missed."""

    @abstractmethod
    def subscribe(self, ticket_id: str, wake: Wake) -> None:
        """Calls `wake` on this loop after each publication, until `unsubscribe`."""

    @abstractmethod
    def unsubscribe(self, ticket_id: str, wake: Wake) -> None:
        """Ends one subscription of `wake`; does nothing where there is none."""

    @abstractmethod
    async def publish(self, ticket_id: str) -> None:
        """Wakes all who wait for the ticket."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many wait in this process."""

    @property
    @abstractmethod
    def tickets(self) -> int:
        """How many tickets are waited for in this process; 0 when the pages are gone."""
