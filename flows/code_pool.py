"""WeChat's codes, made ahead: a page does not wait for WeChat, and page views cannot burn the daily quota.

An entry is a ticket id (the scene) and its code, drawn together; it leaves the pool once. The code's life is
what it may wait here plus what a ticket may live.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

import background
from errors import MethodUnavailable, StoreUnavailable
from storage.rates import Bucket
from storage.shared import LocalShared, Shared
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

ID_BYTES = 18  # of a public id: 144 random bits, 24 characters
EMPTY_POOL_SECONDS = 3.0  # whoever is patient waits this long for a code made on the spot
# A page waits no longer before it is sent without: most answers of WeChat take a tenth of a second, and
# whoever has no scripts need not ask twice.
MOMENT_SECONDS = 0.7
MAX_PARALLEL = 4  # codes made at once
FIRST_PAUSE = 1.0  # seconds after a failure, doubled up to
LONGEST_PAUSE = 60.0
BURST_SHARE = 0.1  # of the daily budget that may go at once; the rest comes back evenly over the day
DAY = 86400.0
QUEUE = "wechat-codes"
LEASE_SECONDS = 15.0  # that a node may take to fill the pool while the others leave it alone
LOOK_SECONDS = 10.0  # between two looks at a pool that nobody here has taken from

log = logging.getLogger("saoma.codes")


@dataclass(frozen=True, slots=True)
class PooledCode:
    id: str  # the ticket's public id, which is the scene
    url: str  # what the QR code encodes
    ticket: str  # WeChat's ticket of the code
    made_at: float


class BudgetUsedUp(MethodUnavailable):
    message = "Too many codes were asked for; try again in a moment."


class NoCodeReady(MethodUnavailable):
    """WeChat has to be asked for a code, and the caller does not wait for that."""


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
        shared: Shared | None = None,
    ) -> None:
        """`code_life`: seconds that a code is good for when it leaves; `daily_budget`: None for no limit.

        `shared` has the pool for all nodes, of which one at a time fills it; None: this process is alone.
        """
        self._client = client
        self._size = size
        self._max_age = max_age
        self._code_life = code_life
        self._now = now
        self._token = token
        self._shared = shared or LocalShared(now)
        self._wanted = asyncio.Event()
        self._filler: asyncio.Task[None] | None = None
        self._spot = asyncio.Semaphore(MAX_PARALLEL)
        burst = max(1.0, (daily_budget or 0) * BURST_SHARE)
        self._budget = Bucket(daily_budget / DAY, burst, burst, now()) if daily_budget else None

    async def ready(self) -> int:
        """How many codes wait."""
        return await self._shared.length(QUEUE)

    def start(self) -> None:
        if self._size:
            self._filler = asyncio.create_task(self._keep_full())

    async def stop(self) -> None:
        if self._filler is not None:
            await background.end([self._filler])

    async def take(self, *, patient: bool = True) -> PooledCode:
        """A code for one ticket. Raises MethodUnavailable where WeChat gives none in time.

        `patient` False: raises NoCodeReady where it cannot be had in a moment.
        """
        self._wanted.set()
        while (waiting := await self._shared.pop(QUEUE)) is not None:
            code = _read(waiting)
            if self._fresh(code):
                return code
        try:
            async with asyncio.timeout(EMPTY_POOL_SECONDS if patient else MOMENT_SECONDS), self._spot:
                return await self._make()
        except (TimeoutError, PlatformError, PlatformUnreachable) as error:
            if not patient:
                raise NoCodeReady from error
            raise MethodUnavailable("WeChat gives no code just now; try again in a moment.") from error

    def _fresh(self, code: PooledCode) -> bool:
        # Either way: where the clock was set back nobody can tell how long it has waited.
        return abs(self._now() - code.made_at) < self._max_age

    async def _make(self) -> PooledCode:
        if self._budget is not None and self._budget.wait(self._now()):
            raise BudgetUsedUp
        made_at, scene = self._now(), self._token(ID_BYTES)
        code = await self._client.create_code(scene, self._max_age + self._code_life)
        return PooledCode(scene, code.url, code.ticket, made_at)

    async def _keep_full(self) -> None:
        """For ever; after a failure with longer and longer pauses."""
        pause = FIRST_PAUSE
        missing: int | None
        while True:
            self._wanted.clear()
            try:
                missing = await self._fill()
            except (PlatformError, PlatformUnreachable, BudgetUsedUp, StoreUnavailable):
                missing = None  # the operator has been told where it was noticed
            except Exception:
                log.exception("the pool of codes could not be filled")
                missing = None
            if missing is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if not missing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), LOOK_SECONDS)

    async def _fill(self) -> int:
        """Makes a few codes; how many are missing still. 0 where another node is filling the pool."""
        if not await self._shared.lease(QUEUE, seconds=LEASE_SECONDS):
            return 0
        try:
            while (oldest := await self._shared.first(QUEUE)) is not None and not self._fresh(_read(oldest)):
                await self._shared.pop(QUEUE)
            missing = self._size - await self.ready()
            wanted = min(missing, MAX_PARALLEL)
            made = await asyncio.gather(*(self._make() for _ in range(wanted)), return_exceptions=True)
            for code in made:
                if isinstance(code, PooledCode):
                    await self._shared.push(QUEUE, json.dumps(asdict(code)))
            for error in made:
                if isinstance(error, BaseException):
                    raise error
            return max(0, missing - wanted)
        finally:
            await self._shared.release(QUEUE)


def _read(waiting: str) -> PooledCode:
    return PooledCode(**json.loads(waiting))
