"""WeChat's codes, made ahead: a page does not wait for WeChat, and page views cannot burn the daily quota.

An entry is a ticket id (the scene) and its code, drawn together; it leaves the pool once. The code's life is
what it may wait here plus what a ticket may live.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import codes
from errors import MethodUnavailable
from flows.limits import Bucket
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

ID_BYTES = 18  # of a public id: 144 random bits, 24 characters
EMPTY_POOL_SECONDS = 3.0  # a page waits this long for a code made on the spot
MAX_PARALLEL = 4  # codes made at once
FIRST_PAUSE = 1.0  # seconds after a failure, doubled up to
LONGEST_PAUSE = 60.0
BURST_SHARE = 0.1  # of the daily budget that may go at once; the rest comes back evenly over the day
DAY = 86400.0

log = logging.getLogger("saoma.codes")


@dataclass(frozen=True, slots=True)
class PooledCode:
    id: str  # the ticket's public id, which is the scene
    url: str  # what the QR code encodes
    ticket: str  # WeChat's ticket of the code
    made_at: float


class BudgetUsedUp(MethodUnavailable):
    message = "Too many codes were asked for; try again in a moment."


class CodePool:
    def __init__(
        self,
        client: WechatClient,
        *,
        size: int,
        max_age: float,
        code_life: float,
        daily_budget: int | None,
        now: Callable[[], float],
        token: Callable[[int], str],
    ) -> None:
        """`code_life`: seconds that a code is good for when it leaves; `daily_budget`: None for no limit."""
        self._client = client
        self._size = size
        self._max_age = max_age
        self._code_life = code_life
        self._now = now
        self._token = token
        self._ready: deque[PooledCode] = deque()
        self._wanted = asyncio.Event()
        self._filler: asyncio.Task[None] | None = None
        self._spot = asyncio.Semaphore(MAX_PARALLEL)
        burst = max(1.0, (daily_budget or 0) * BURST_SHARE)
        self._budget = Bucket(daily_budget / DAY, burst, burst, now()) if daily_budget else None

    def __len__(self) -> int:
        return len(self._ready)

    def start(self) -> None:
        if self._size:
            self._filler = asyncio.create_task(self._fill())

    async def stop(self) -> None:
        if self._filler is not None:
            self._filler.cancel()
            await asyncio.wait([self._filler])

    async def take(self) -> PooledCode:
        """A code for one ticket. Raises MethodUnavailable where WeChat gives none in time."""
        self._drop_old()
        self._wanted.set()
        if self._ready:
            return self._ready.popleft()
        try:
            async with asyncio.timeout(EMPTY_POOL_SECONDS), self._spot:
                return await self._make()
        except (TimeoutError, PlatformError, PlatformUnreachable) as error:
            raise MethodUnavailable("WeChat gives no code just now; try again in a moment.") from error

    async def _make(self) -> PooledCode:
        if self._budget is not None and self._budget.wait(self._now()):
            raise BudgetUsedUp
        made_at, scene = self._now(), self._token(ID_BYTES)
        code = await self._client.create_code(scene, self._max_age + self._code_life)
        await asyncio.to_thread(codes.svg, code.url)  # drawn now, not while a page waits for it
        return PooledCode(scene, code.url, code.ticket, made_at)

    def _drop_old(self) -> None:
        while self._ready and self._now() >= self._ready[0].made_at + self._max_age:
            self._ready.popleft()

    async def _fill(self) -> None:
        """Keeps the pool full, for ever; after a failure with longer and longer pauses."""
        pause = FIRST_PAUSE
        while True:
            self._drop_old()
            missing = self._size - len(self._ready)
            if not missing:
                self._wanted.clear()
                oldest_goes = self._ready[0].made_at + self._max_age - self._now()
                try:
                    await asyncio.wait_for(self._wanted.wait(), max(1.0, oldest_goes))
                except TimeoutError:
                    continue
                continue
            made = await asyncio.gather(
                *(self._make() for _ in range(min(missing, MAX_PARALLEL))), return_exceptions=True
            )
            self._ready += (code for code in made if isinstance(code, PooledCode))
            failures = [error for error in made if isinstance(error, BaseException)]
            for error in failures:
                if not isinstance(error, (PlatformError, PlatformUnreachable, BudgetUsedUp)):
                    log.error("a code could not be made", exc_info=error)
            if failures:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
