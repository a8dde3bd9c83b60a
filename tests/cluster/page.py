"""A waiting page, after static/login.js: WebSocket, else long poll, else plain polls; it reconnects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable
from typing import TypeVar

from tornado.httpclient import HTTPError
from tornado.websocket import WebSocketClientConnection

from tests.cluster.site import SiteBrowser

LONGEST_PAUSE = 5.0
SILENCE = 5.0
HELD = 20
LEAST_HELD = 5.0

Result = TypeVar("Result")

FAILURES = (OSError, HTTPError, TimeoutError)


async def unhurried(coming: Awaitable[Result]) -> Result:
    """Its outcome. Goes on alone when we are cancelled, as Tornado logs what fails after a cancellation."""

    def over(task: asyncio.Future[Result]) -> None:
        if not task.cancelled() and task.exception() is None and gone:
            result = task.result()
            if isinstance(result, WebSocketClientConnection):
                result.close()

    gone = False
    task = asyncio.ensure_future(coming)
    task.add_done_callback(over)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        gone = True
        raise


def jittered(seconds: float) -> float:
    return seconds * (0.5 + random.random() / 2)


class Page:
    """`heard` maps each state to the time.monotonic() of its first mention."""

    def __init__(self, browser: SiteBrowser, ticket_id: str) -> None:
        self.heard: dict[str, float] = {}
        self.state = ""
        self.broken = 0  # how often its socket was cut
        self.gaps: list[tuple[float, float]] = []  # from when until when it heard nothing
        self._cut_at: float | None = None
        self._browser = browser
        self._ticket_id = ticket_id
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def told(self, state: str, seconds: float = 30) -> float:
        """When it was told of the state; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while state not in self.heard:
                self._news.clear()
                await self._news.wait()
        return self.heard[state]

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _follow(self) -> None:
        ways = [self._by_socket, self._by_long_poll, self._by_poll]
        faults = absences = 0
        while True:
            done = await ways[0]()
            if len(ways) == 3:
                self.broken += 1
                self._cut_at = self._cut_at or time.monotonic()
            if done:
                faults = 0
                await asyncio.sleep(jittered(0.3))
            elif await self._ask():
                absences, faults = 0, faults + 1
                if faults == 2 and len(ways) > 1:
                    ways.pop(0)
                    faults = 0
            else:
                await asyncio.sleep(jittered(min(LONGEST_PAUSE, 0.5 * 2**absences)))
                absences += 1

    async def _by_socket(self) -> bool:
        since, spoke = time.monotonic(), False
        connection = None
        try:
            async with asyncio.timeout(SILENCE) as silence:
                connection = await unhurried(self._browser.connect(self._ticket_id))
                while (message := await connection.read_message()) is not None:
                    spoke = True
                    silence.reschedule(None)
                    self._hear(json.loads(message))
        except FAILURES:
            pass
        finally:
            if connection is not None:
                connection.close()
        return spoke and time.monotonic() - since > 1.0

    async def _by_long_poll(self) -> bool:
        since, known = time.monotonic(), self.state
        answered = await self._ask(f"?wait={HELD}&state={known}", HELD + 8)
        return answered and (self.state != known or time.monotonic() - since >= LEAST_HELD)

    async def _by_poll(self) -> bool:
        await asyncio.sleep(3)
        return await self._ask()

    async def _ask(self, query: str = "", patience: float = 8) -> bool:
        try:
            async with asyncio.timeout(patience):
                answer = await unhurried(self._browser.get(f"/api/v1/tickets/{self._ticket_id}{query}"))
            told = json.loads(answer.body)
        except (*FAILURES, ValueError):
            return False
        if "state" not in told:
            return False
        self._hear(told)
        return True

    def _hear(self, told: dict[str, str]) -> None:
        self.state = told["state"]
        if self._cut_at is not None:
            self.gaps.append((self._cut_at, time.monotonic()))
            self._cut_at = None
        self.heard.setdefault(self.state, time.monotonic())
        self._news.set()
