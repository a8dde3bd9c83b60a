"""What every use case needs from outside; made once by `server.py`."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.base import Broker
from config import Settings
from metrics import Metrics
from storage.base import Storage
from storage.rates import Rates
from translations import Catalogues


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    base_url: str  # scheme://host[:port] that browsers and phones use
    storage: Storage
    broker: Broker
    rates: Rates  # shared with the other nodes where there are any
    catalogues: Catalogues
    now: Callable[[], float]  # Unix seconds
    token: Callable[[int], str]  # that many random bytes, URL-safe
    random: Callable[[int], bytes]
    mac: Callable[[str, str], str]  # (purpose, value) -> hex, which only we can make
    previous_mac: Callable[[str, str], str] | None = (
        None  # by the key that is also accepted while they rotate
    )
    metrics: Metrics = field(default_factory=Metrics)

    def macs(self, purpose: str, value: str) -> tuple[str, ...]:
        """All that are accepted, the one that we make first."""
        makers = (self.mac, self.previous_mac) if self.previous_mac else (self.mac,)
        return tuple(make(purpose, value) for make in makers)

    def is_mac(self, given: str, purpose: str, value: str, length: int | None = None) -> bool:
        """Whether `given` is one of them, or the first `length` digits of one; in constant time."""
        encoded = given.encode("utf-8", "surrogatepass")
        known = [hmac.compare_digest(encoded, mac[:length].encode()) for mac in self.macs(purpose, value)]
        return any(known)

    def pseudonym(self, value: str) -> str:
        """How an openid is written in a log: the same each time, and no way back."""
        return self.mac("log", value)[:12]
