"""For whoever keeps the process alive. Checks come by address, so any Host will do."""

from __future__ import annotations

from handlers.base import ApiHandler


class Health(ApiHandler):
    """The process answers."""

    any_host = True

    async def get(self) -> None:
        self.write_json({"status": "ok"})

    head = get


class Ready(ApiHandler):
    """The store takes writes; 503 where it does not."""

    any_host = True

    async def get(self) -> None:
        await self.context.storage.ping()
        self.write_json({"status": "ready", "waiting": self.context.broker.waiting})

    head = get
