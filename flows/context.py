"""What every use case needs from outside; made once by `server.py`."""

from __future__ import annotations

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
    metrics: Metrics = field(default_factory=Metrics)

    def pseudonym(self, value: str) -> str:
        """How an openid is written in a log: the same each time, and no way back."""
        return self.mac("log", value)[:12]
