"""Rates that all nodes count together, in Redis: one round trip each, and keys that go by themselves.

A key says when its bucket would be full again (GCRA), and lives until then. So what there is of them is what
was taken of late, however many keys somebody makes up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from storage.rates import LocalRates, Rate, Rates
from storage.redis import PREFIX
from storage.redis_client import Client, Script

# Whoever is counted has the node's own count to go by, and does not wait for a Redis that hangs.
ANSWER_SECONDS = 0.5
AWAY_SECONDS = 1.0  # that a Redis which did not answer is not asked

log = logging.getLogger("saoma.storage")

# In milliseconds, by Redis's clock; ARGV: what one takes to come back, and the whole bucket. What lies
# further ahead than that was written by a clock that has been set back since.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local one, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if full > now + all + 1 then full = now end
"""
_PUT = "redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now))"
_TAKE = Script(f"""{_NOW}
full = full + one
local wait = full - now - all
if wait > 0.01 then return math.ceil(wait) end
{_PUT}
return 0
""")
_GIVE_BACK = Script(f"""{_NOW}
full = full - one
if full > now then {_PUT} else redis.call('DEL', KEYS[1]) end
return 0
""")


class RedisRates(Rates):
    def __init__(self, client: Client, now: Callable[[], float]) -> None:
        """`now` is for this node's own count, made in any case: a flood goes no further than that."""
        self._own = LocalRates(now)
        self._client = client
        self._away_until: float | None = None  # by the loop's clock

    async def take(self, rate: Rate, key: str) -> float:
        if wait := await self._own.take(rate, key):
            return wait
        return await self._ask(_TAKE, rate, key) / 1000

    async def give_back(self, rate: Rate, key: str) -> None:
        await self._own.give_back(rate, key)
        await self._ask(_GIVE_BACK, rate, key)

    async def _ask(self, script: Script, rate: Rate, key: str) -> int:
        """Milliseconds; 0 from a Redis that does not answer."""
        now = asyncio.get_running_loop().time()
        if self._away_until is not None and now < self._away_until:
            return 0
        one = 1000 / rate.per_second
        asked = self._client.run(script, [self._key(rate, key)], [one, one * rate.capacity])
        try:
            wait = await asyncio.wait_for(asked, ANSWER_SECONDS)
        except (RedisError, OSError, TimeoutError):
            if self._away_until is None:
                log.warning("Redis does not answer: each node counts the rates for itself until it does")
            self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
            return 0
        self._away_until = None
        return int(wait)

    def _key(self, rate: Rate, key: str) -> str:
        """Of one length, and without the address or the person in it."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        return f"{PREFIX}rate:{rate.name}:{digest}"
