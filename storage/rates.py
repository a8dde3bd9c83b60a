"""Rates: how many of something each key may have, counted by one process or by all nodes together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

MAX_KEYS = 100_000  # of one rate that a process keeps; the one unused for longest goes first


@dataclass(frozen=True, slots=True)
class Rate:
    """A key has `capacity` at first and regains `per_second`; `name` keeps apart what is counted."""

    name: str
    per_second: float
    capacity: float

    @classmethod
    def per_minute(cls, name: str, number: float) -> Rate:
        return cls(name, number / 60, number)


class Rates(ABC):
    """Never fails: what cannot be counted together is counted by each node for itself."""

    @abstractmethod
    async def take(self, rate: Rate, key: str) -> float:
        """Takes one and returns 0, or the seconds until there is one."""

    @abstractmethod
    async def give_back(self, rate: Rate, key: str) -> None:
        """As if one had not been taken."""


@dataclass(slots=True)
class Bucket:
    """Holds up to `capacity`, regains `rate` a second; begins full."""

    rate: float
    capacity: float
    level: float
    at: float

    def wait(self, now: float) -> float:
        """Takes one and returns 0, or the seconds until there is one."""
        self.level = min(self.capacity, self.level + max(0.0, now - self.at) * self.rate)
        self.at = now
        if self.level >= 1.0:
            self.level -= 1.0
            return 0.0
        return (1.0 - self.level) / self.rate

    def give_back(self) -> None:
        self.level = min(self.capacity, self.level + 1.0)


class LocalRates(Rates):
    """One process counts for itself. `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: defaultdict[str, OrderedDict[str, Bucket]] = defaultdict(OrderedDict)

    async def take(self, rate: Rate, key: str) -> float:
        now, buckets = self._now(), self._buckets[rate.name]
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = Bucket(rate.per_second, rate.capacity, rate.capacity, now)
            if len(buckets) > MAX_KEYS:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(key)
        return bucket.wait(now)

    async def give_back(self, rate: Rate, key: str) -> None:
        bucket = self._buckets[rate.name].get(key)
        if bucket is not None:
            bucket.give_back()
