"""Rates: token buckets by key. Pure but for the time, which is passed in."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

from errors import TooManyRequests
from flows.context import Context
from storage.rates import Rate, Rates

MAX_KEYS = 100_000  # the buckets kept; the one unused for longest goes first


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


class RateLimit:
    """One bucket a key."""

    def __init__(self, *, rate: float, capacity: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> None:
        """Raises TooManyRequests with the seconds to wait."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._capacity, self._capacity, now)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        if wait := bucket.wait(now):
            raise TooManyRequests(max(1, math.ceil(wait)))

    def give_back(self, key: str) -> None:
        """As if one had not been taken."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.level = min(bucket.capacity, bucket.level + 1.0)


async def take(context: Context, rate: Rate, key: str, rates: Rates | None = None) -> None:
    """Counts one, with the other nodes unless `rates` says otherwise. Raises TooManyRequests."""
    if not context.settings.limits.enabled:
        return
    if wait := await (rates or context.rates).take(rate, key):
        raise TooManyRequests(max(1, math.ceil(wait)))


async def give_back(context: Context, rate: Rate, key: str) -> None:
    """As if `take` had not counted one."""
    if context.settings.limits.enabled:
        await context.rates.give_back(rate, key)


def address_key(address: str) -> str:
    """One key for what one subscriber holds: an IPv4 address, an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
