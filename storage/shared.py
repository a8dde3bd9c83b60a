"""What the nodes of a cluster share besides their tickets: WeChat's token, the pool of codes, who fills it,
and the marks that tell whether what a node remembers still holds.

None of it is lasting truth: all of it may be forgotten, and is made anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence


class Shared(ABC):
    """Every call may raise StoreUnavailable."""

    @abstractmethod
    async def get(self, name: str) -> str | None: ...

    @abstractmethod
    async def put(self, name: str, value: str, *, seconds: float) -> None:
        """Kept for that long."""

    @abstractmethod
    async def push(self, name: str, value: str) -> None:
        """Puts it at the end of the queue."""

    @abstractmethod
    async def pop(self, name: str) -> str | None:
        """The queue's first, for one caller alone."""

    @abstractmethod
    async def first(self, name: str) -> str | None:
        """The queue's first, left where it is."""

    @abstractmethod
    async def length(self, name: str) -> int: ...

    @abstractmethod
    async def lease(self, name: str, *, seconds: float) -> bool:
        """Whether the caller has it now, alone, until it is released or that long."""

    @abstractmethod
    async def release(self, name: str) -> None:
        """Gives up what this process leased."""

    @abstractmethod
    async def marks(self, names: Sequence[str]) -> list[str]:
        """The mark of each name, as it is now: at no time before the call.

        One that was forgotten is made anew and is like none before it, so that it counts as renewed.
        """

    @abstractmethod
    async def renew(self, names: Iterable[str]) -> None:
        """Once this has returned, nobody reads a mark of these names that was there before the call."""

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        """Does the same where that takes no waiting; False, with nothing done, elsewhere."""
        return False


class LocalShared(Shared):
    """One process shares with nobody. `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[str, tuple[str, float]] = {}
        self._queues: defaultdict[str, deque[str]] = defaultdict(deque)
        self._leases: dict[str, float] = {}
        self._marks: dict[str, str] = {}
        self._renewals = 0

    async def get(self, name: str) -> str | None:
        value, end = self._values.get(name, ("", 0.0))
        return value if self._now() < end else None

    async def put(self, name: str, value: str, *, seconds: float) -> None:
        self._values[name] = (value, self._now() + seconds)

    async def push(self, name: str, value: str) -> None:
        self._queues[name].append(value)

    async def pop(self, name: str) -> str | None:
        queue = self._queues[name]
        return queue.popleft() if queue else None

    async def first(self, name: str) -> str | None:
        queue = self._queues[name]
        return queue[0] if queue else None

    async def length(self, name: str) -> int:
        return len(self._queues[name])

    async def lease(self, name: str, *, seconds: float) -> bool:
        if self._now() < self._leases.get(name, 0.0):
            return False
        self._leases[name] = self._now() + seconds
        return True

    async def release(self, name: str) -> None:
        self._leases.pop(name, None)

    async def marks(self, names: Sequence[str]) -> list[str]:
        known = self._marks
        return [known.get(name, "") for name in names]

    async def renew(self, names: Iterable[str]) -> None:
        self._renew(names)

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        self._renew(names)
        return True

    def _renew(self, names: Iterable[str]) -> None:
        self._renewals += 1
        self._marks.update(dict.fromkeys(names, str(self._renewals)))
