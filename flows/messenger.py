"""Messages of the account's own to people who have just scanned; never waited for.

One that is lost, with the process or on the way, is sent again when the person scans again.
"""

from __future__ import annotations

import asyncio
import logging

import background
from flows.context import Context
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

PARALLEL = 4  # calls at once at most
MAX_WAITING = 10_000

log = logging.getLogger("saoma.messages")


class Messenger:
    def __init__(self, context: Context, client: WechatClient) -> None:
        self._context = context
        self._client = client
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_WAITING)
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._work()) for _ in range(PARALLEL)]

    async def stop(self) -> None:
        await background.end(self._workers)

    def send(self, openid: str, text: str) -> None:
        if self._queue.full():
            log.warning("too many messages wait for WeChat; one was dropped")
        else:
            self._queue.put_nowait((openid, text))

    async def _work(self) -> None:
        while True:
            openid, text = await self._queue.get()
            try:
                await self._client.send_text(openid, text)
            except (PlatformError, PlatformUnreachable):
                # The client has told the operator why.
                log.info("no message for %s this time", self._context.pseudonym(openid))
            except Exception:
                log.exception("a message for %s could not be sent", self._context.pseudonym(openid))
            finally:
                self._queue.task_done()
