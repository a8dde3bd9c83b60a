"""Draws codes for requests: what takes milliseconds in a thread, so that no waiting page is held up by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

import background
import codes

Drawn = TypeVar("Drawn", str, bytes)


class Drawing:
    def __init__(self, likely: Iterable[str] = ()) -> None:
        """`likely`: texts as long as those that will be asked for."""
        self._likely = tuple(likely)
        self._prepared: set[int] = set()  # versions that are drawn in microseconds by now
        # One thread at a time: each takes the interpreter from the loop for milliseconds now and then.
        self._turn = asyncio.Lock()
        self._preparing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Prepares, beside the serving, what the likely texts need. Needs a running loop."""
        self._preparing = asyncio.create_task(self._prepare())

    async def stop(self) -> None:
        if self._preparing is not None:
            await background.end([self._preparing])

    async def svg(self, text: str) -> str:
        return await self._drawn(codes.svg, text)

    async def png(self, text: str) -> bytes:
        return await self._drawn(codes.png, text)

    async def _prepare(self) -> None:
        for text in self._likely:
            await self.svg(text)

    async def _drawn(self, draw: Callable[[str], Drawn], text: str) -> Drawn:
        version = codes.version_of(text)
        if version in self._prepared:
            return draw(text)
        async with self._turn:
            drawn = await asyncio.to_thread(draw, text)
        if version is not None:
            self._prepared.add(version)
        return drawn
