"""Tasks that run beside the requests, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks and returns when they have ended.

    More than once where it takes more: in Python 3.11 `asyncio.wait_for` may swallow a cancellation
    (python/cpython#86296), and so may a library that uses it.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)
